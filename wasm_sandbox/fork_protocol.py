"""What host and fork server say to each other, and what a worker's exit code means. Constants only, for both sides.

One message per direction is a fixed struct; descriptors travel beside it:

    host to server   FORK number [frames, control] · KILL number · MEMORY MiB number · CPU seconds number
    server to host   READY pid [pidfd] · FORKED pid number [pidfd] · FAILED errno number · EXITED status number ·
                     CAPPED errno number

Behind READY comes the report of the jail (jail/report.py). Pids of the server's side count in its own pid namespace, so
they are only labels: the host takes the pid that it sees from the pidfd.
"""

from __future__ import annotations

import socket
import struct
import sys

MESSAGE = struct.Struct("<B3xiQ")
"""Kind, value (pid, errno or exit status), number of the worker."""
FORK, KILL, MEMORY, CPU = 1, 2, 3, 4
"""MEMORY and CPU move the resource limits of a worker that cannot do it itself."""
READY, FORKED, FAILED, EXITED, CAPPED = 11, 12, 13, 14, 15
"""CAPPED answers MEMORY, with 0 or why not: no tenant is let in before his memory is capped."""
SOCKET_TYPE = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
"""Whole messages where the system has them; elsewhere 16 bytes are written and read at once."""

EXIT_HOST_GONE = 80
EXIT_TRAPPED = 81
EXIT_BROKEN = 82
EXIT_NO_GUEST = 83
EXIT_TEXTS = {
    EXIT_HOST_GONE: "it saw its channel close",
    EXIT_TRAPPED: "the guest trapped",
    EXIT_BROKEN: "its own side of the bridge failed",
    EXIT_NO_GUEST: "it could not make an interpreter",
}
"""What the host says for each exit code of a worker."""
LAST_WORDS_BYTES = 400
"""A worker that fails may send this much text on its control channel, for the host's error message."""
