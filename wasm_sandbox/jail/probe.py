"""A program without a guest: a fork server that runs it raises the jail and reports, and needs no image for that."""

from __future__ import annotations

from typing import NoReturn

from ..worker import Program
from .profile import Jail


def load_program() -> Program:
    """See `cloche.wasm_sandbox.program.load_program`. It cannot make workers."""
    return Program(b"", _no_guest)


def _no_guest(_jail: Jail) -> NoReturn:
    raise RuntimeError("a probe of the jail has no guest")
