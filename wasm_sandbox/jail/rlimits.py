"""Resource limits of a worker: what the kernel refuses it even where everything else has failed.

The rule: hard and soft limit are the same wherever a guest's own worker must not raise it again; the CPU limit is the
exception, because each cell moves it. Limits are inherited, so the fork server sets those that are the same for all.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time

if sys.platform != "win32":
    import resource  # at once: behind the jail nothing can be imported

MIB = 1024 * 1024
DATA_BASE_BYTES = 96 * MIB
"""Writable memory of a warm worker without its linear memory: one stack of 80 MiB, interpreter and wasmtime. 83 MiB in
`VmData` when it was measured (docs/design/jail.md)."""
FILE_COPIES = 3
"""A file is in memory at most this often: itself, read, and joined into a frame (or while it grows)."""
FRAME_COPIES = 4
"""So is a value on its way: as received, joined, cut out, and in its frame."""
FRAME_BASE_BYTES = 64 * MIB
"""Room for code, headers and the heap's own waste."""
CPU_SLACK_S = 2
"""The host's own watch is finer and comes first; this ends a worker whose host is stopped."""


def data_bytes(memory_bytes: int, file_bytes: int, value_bytes: int) -> int:
    """Cap of a worker's writable memory. Address space has none: wasm reserves 4 GiB that it never touches."""
    copies = FILE_COPIES * file_bytes + FRAME_COPIES * value_bytes
    return DATA_BASE_BYTES + memory_bytes + copies + FRAME_BASE_BYTES


def limit_server() -> None:
    """What fork server and workers have in common.

    Raises:
        OSError: a limit is refused.
    """
    for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE"):
        kind = getattr(resource, name, None)
        if kind is not None:
            resource.setrlimit(kind, (0, 0))


def limit_worker(descriptors: int) -> None:
    """No process, no thread and no descriptor more. `descriptors`: the highest open number plus one.

    Raises:
        OSError: a limit is refused.
    """
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def limit_memory(size: int) -> None:
    """Cap the writable memory of this process at `size` bytes, for good. Lower than before is kept.

    Raises:
        OSError: refused.
    """
    cap = _lower(size, resource.getrlimit(resource.RLIMIT_DATA)[1])
    resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))


def limit_memory_of(pid: int, mebibytes: int) -> None:
    """As `limit_memory`, for a child that cannot do it itself.

    Raises:
        OSError: refused, or it is gone.
    """
    cap = _lower(mebibytes * MIB, resource.prlimit(pid, resource.RLIMIT_DATA)[1])
    resource.prlimit(pid, resource.RLIMIT_DATA, (cap, cap))


def limit_cpu_of(pid: int, seconds: int) -> None:
    """Move the CPU time after which SIGXCPU ends a child, as far as the host's own limit allows. One that is gone
    already needs no limit."""
    with contextlib.suppress(OSError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_CPU)
        resource.prlimit(pid, resource.RLIMIT_CPU, (_lower(seconds, hard), hard))


def _lower(size: int, hard: int) -> int:
    """No limit above the hard one can be set."""
    return size if hard == resource.RLIM_INFINITY else min(size, hard)


class CpuLimit:
    """The CPU time after which SIGXCPU ends this process. Each cell moves it, so the hard limit stays."""

    def __init__(self) -> None:
        self._soft = 0

    def allow(self, more_s: float) -> None:
        """`more_s` further CPU seconds, rounded up, and a short slack. Mostly costs a look at the clock.

        Raises:
            OSError: refused.
        """
        soft = math.ceil(time.process_time() + more_s) + CPU_SLACK_S
        if soft == self._soft:
            return
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (_lower(soft, hard), hard))
        self._soft = soft
