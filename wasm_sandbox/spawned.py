"""Entry of a spawned worker, where forking is not safe: loads the image for one sandbox, then is a worker like any."""

from __future__ import annotations

import socket
from importlib import import_module
from typing import NoReturn

from . import process_state
from .worker import Program, run_worker


def main(arguments: list[str]) -> NoReturn:
    """Descriptors of the frames and control sockets, module of the program, then what its `load_program` takes."""
    process_state.prepare("cloche-worker")
    program: Program = import_module(arguments[2]).load_program(*arguments[3:])
    process_state.silence_stderr()
    run_worker(socket.socket(fileno=int(arguments[0])), socket.socket(fileno=int(arguments[1])), program)
