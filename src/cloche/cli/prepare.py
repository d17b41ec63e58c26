"""Gets the engine ready while the rest of the command line is still loading, and tells whoever waits long.

Two things take time before a first cell: compiling the image, once per machine, and starting the fork server, about as
long as importing what `cloche exec` needs. So `start_early` begins both on another thread, before typer is imported.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Sequence

from ..runtime.errors import ClocheError
from ..runtime.runtime_core import default_core
from ..runtime.walls import Isolation
from ..wasm_sandbox.image.compile import compiled_module
from ..wasm_sandbox.image.load import load_image
from ..wasm_sandbox.image.store import find_image
from .terminal import write_text

_gate = threading.Lock()
"""Held by whoever prepares; the other one waits and finds it done."""


def start_early(arguments: Sequence[str]) -> None:
    """Begin what a sandbox of its own process needs, if these arguments lead to one. Errors wait for `prepare`."""
    if "thread" in arguments or "deno" in arguments or "--help" in arguments or len(arguments) < 2:
        return

    threading.Thread(target=_prepare_quietly, name="cloche-early", daemon=True).start()


def _prepare_quietly() -> None:
    with contextlib.suppress(ClocheError):
        prepare("process")


def prepare(isolation: Isolation, engine: str = "wasmtime") -> None:
    """Have the default runtime ready for a sandbox. Says on stderr what takes longer than a moment.

    Raises:
        ImageError: there is no usable image, or the cache cannot be used.
    """
    with _gate:
        # Epoch checks only where there is no process to kill.
        if engine == "wasmtime":
            compiled_module(load_image(find_image()), epochs=isolation == "thread", progress=say)
        default_core().source(isolation, engine).prepare()


def say(sentence: str) -> None:
    """Progress, on stderr, where it disturbs no output."""
    write_text(f"cloche: {sentence}\n", sys.stderr)
