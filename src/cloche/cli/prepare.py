"""The one slow thing before a first cell: the image is compiled once per machine, and whoever waits is told."""

from __future__ import annotations

import sys

from ..wasm_sandbox.image.compile import compiled_module
from ..wasm_sandbox.image.load import load_image
from ..wasm_sandbox.image.store import find_image
from .terminal import write_text


def compile_image(isolation: str) -> None:
    """Make sure that the compiled module is there; a few milliseconds when it is. Says on stderr what takes longer.

    Raises:
        ImageError: there is no usable image, or the cache cannot be used.
    """
    # Epoch checks only where there is no process to kill.
    compiled_module(load_image(find_image()), epochs=isolation == "thread", progress=say)


def say(sentence: str) -> None:
    """Progress, on stderr, where it disturbs no output."""
    write_text(f"cloche: {sentence}\n", sys.stderr)
