"""Descriptors of processes that another process sends: how one arrives, and whose it is.

The rule: a number that counts in somebody else's pid namespace is only a label; a pid is what this process reads here.
"""

from __future__ import annotations

import errno
import os
import socket
import sys

_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def receive(sock: socket.socket, size: int) -> tuple[bytes, int | None]:
    """One message and the descriptor beside it, if any; the caller closes that. One that was sent may be lost: see
    `lost_descriptor`. Raises OSError."""
    data, ancillary, _flags, _address = sock.recvmsg(size, socket.CMSG_SPACE(4), _CLOSE_ON_EXEC)
    return data, int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else None


def lost_descriptor() -> OSError:
    """Why one that was sent did not arrive: the kernel drops it where this process may open no more."""
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def pid_of(pidfd: int) -> int | None:
    """The pid by which this process knows the one behind `pidfd`; None when it is gone.

    Raises:
        FileNotFoundError: /proc is not there, or is of processes that do not see that one.
        OSError: it cannot be read now, such as for lack of a descriptor.
    """
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as lines:
        found = [int(line.removeprefix("Pid:")) for line in lines if line.startswith("Pid:")]
    if not found or found[0] == 0:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return found[0] if found[0] > 0 else None
