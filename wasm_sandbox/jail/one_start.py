"""One start of a program and no second: the kernel asks the launcher about the first `execve`, and then nobody.

The rule: a filter with a listener stops the call until the launcher answers. The launcher answers once and closes the
listener; from then on the kernel refuses the call by itself (ENOSYS), whoever makes it and with whatever arguments.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct

from .deno_calls import start_question
from .syscalls import syscall, this_machine

_SET_FILTER, _NEW_LISTENER, _SPEC_ALLOW = 1, 8, 4
_RECEIVE, _SEND = 0xC050_2100, 0xC018_2101
"""SECCOMP_IOCTL_NOTIF_RECV and _SEND: 80 and 24 bytes."""
_NOTICE_BYTES = 80
_CONTINUE = 1
_PATIENCE_S = 5.0
"""Between the fork of a worker and its start of a program lies a millisecond."""


def ask_from_here_on(channel: socket.socket) -> None:
    """In the worker, before its own filter: the next `execve` waits for `let_start` at the channel's other end.

    Raises:
        OSError: this kernel has no such listeners (before 5.5), or another one stands already.
    """
    machine = this_machine()
    if machine is None:
        raise OSError(errno.ENOSYS, "not a machine that the jail knows")
    code = start_question(machine)
    instructions = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(instructions)))
    pointer = ctypes.c_void_p(ctypes.addressof(program))
    listener = syscall("seccomp", _SET_FILTER, _NEW_LISTENER | _SPEC_ALLOW, pointer)
    try:
        socket.send_fds(channel, [b"\0"], [listener])
    finally:
        os.close(listener)


def let_start(channel: socket.socket) -> None:
    """In the launcher: let the worker start its one program. Returns as well when the worker ended before that."""
    channel.settimeout(_PATIENCE_S)
    try:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    except OSError:
        return
    for listener in descriptors:
        try:
            _answer_once(listener)
        finally:
            os.close(listener)


def _answer_once(listener: int) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if not any(event & select.POLLIN for _, event in poll.poll(_PATIENCE_S * 1000)):
        return
    notice = bytearray(_NOTICE_BYTES)
    try:
        fcntl.ioctl(listener, _RECEIVE, notice)
        (number,) = struct.unpack_from("<Q", notice)
        fcntl.ioctl(listener, _SEND, bytearray(struct.pack("<QqiI", number, 0, 0, _CONTINUE)))
    except OSError as exc:
        if exc.errno != errno.ENOENT:  # the worker was killed meanwhile
            raise
