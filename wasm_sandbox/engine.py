"""A loaded image, ready to make sandboxes: the module, its linker and what is constant in it.

One engine serves all instances of a process. It holds no state of any of them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ..runtime.large_blocks import keep_large_blocks
from ..runtime.plain import record
from .callbacks import Linker
from .host_calls import HOST_CALLS
from .imports import ALL_IMPORTS
from .instance import Instance
from .native import NativeEngine

if TYPE_CHECKING:
    from pathlib import Path

    from .filesystem import FileSystem
    from .world import World

INTERRUPT_AT, OUTPUT_STATE_AT, BUFFER_AT = 8, 12, 16
"""Places in the shim's area; shim.wat documents it."""


@record
class Exports:
    """Names of the few exports that the host uses."""

    memory: str = "memory"
    enter: str = "shim_enter"
    reply: str = "shim_reply"
    buffer: str = "shim_buffer"
    scratch: str = "__mut_scratch"
    interrupt_offset: int = INTERRUPT_AT
    """Of the interrupt flag, from the scratch area's start."""
    output_state_offset: int = OUTPUT_STATE_AT
    """Of the byte that tells whether the runner has unsent output (raw_output.py)."""
    buffer_offset: int = BUFFER_AT
    """Of the shim's buffer. `buffer` gives a larger one for a message that does not fit."""


class Engine:
    """Makes instances of one compiled module."""

    def __init__(self, native: NativeEngine, compiled: str | Path) -> None:
        """Load a module that `NativeEngine.compile` made with the same settings. The caller has verified the file."""
        keep_large_blocks()
        self.native = native
        self.epochs = native.epochs
        self.exports = Exports()
        self._module = native.load(compiled)
        self._linker = Linker(self._module, {**ALL_IMPORTS, **HOST_CALLS})
        self._ids = itertools.count(1)

    @classmethod
    def load(cls, compiled: str | Path, *, epochs: bool) -> Engine:
        """The engine for a compiled module. `epochs` as it was compiled: another thread can then stop running code."""
        return cls(NativeEngine(epochs=epochs), compiled)

    def instance(self, world: World, files: FileSystem, *, memory_bytes: int) -> Instance:
        """A fresh interpreter, about 0.4 ms. The caller closes it.

        Args:
            memory_bytes: cap of the linear memory; above it the guest sees MemoryError.
        """
        return Instance(self, self._linker, world, files, memory_bytes)
