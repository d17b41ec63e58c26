"""The release of wasmtime that cloche is made for, and the machine that it runs on, both told without loading it."""

from __future__ import annotations

import os

WASMTIME = "50.0.1"


def machine() -> str:
    """Name of the processor family as the system says it, in lower case: x86_64, aarch64, arm64, amd64."""
    if hasattr(os, "uname"):  # `platform` takes every process start 3 ms
        return os.uname().machine.lower()
    import platform

    return platform.machine().lower()
