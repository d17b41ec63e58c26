"""What a fork server and its workers do to their own process: inherit nothing, leave nothing, die with the parent.

The rule: everything here only takes away. Where a system lacks a feature the function says so by its result or does
nothing; the design page lists what then holds instead. (The OS jail is a wall of its own and not here.)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 1, 15, 38
_libc = ctypes.CDLL(None)
if sys.platform == "linux":
    # Bound once, before any fork: a lookup costs a new worker 0.7 ms.
    _libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_WORKER_NAME = ctypes.create_string_buffer(b"cloche-worker")


def prepare(name: str) -> None:
    """Make this process harmless: no environment, no core file, no new privileges, `/` as folder, deaf to signals.

    A terminal's Ctrl-C or a service manager's SIGTERM to the whole group is for the host, which may want to finish what
    runs; this process ends when the host does. Its children inherit all of it. `name` is what `ps` and `top` show.
    """
    _wipe_environment()
    _offer_to_the_oom_killer()
    os.umask(0o077)
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a blocked SIGCHLD would be inherited from the host's thread
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _name_process(ctypes.create_string_buffer(name.encode()))


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when the process `parent` dies (Linux). Ends at once if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _name_process(_WORKER_NAME)
    if os.getppid() != parent:
        os._exit(0)


def pidfd_open(pid: int) -> int | None:
    """A descriptor of the process, None where the system has none."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def thread_count() -> int:
    """Threads of this process, native ones too; 1 where that cannot be seen."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def silence_stderr() -> None:
    """From here on nobody reads what is written there."""
    os.dup2(1, 2)  # the null device, as the host started us; none can be opened behind the jail


def _wipe_environment() -> None:
    """Overwrite the environment where the kernel shows it (`/proc/PID/environ`), then forget it."""
    if sys.platform == "linux":
        variables = ctypes.POINTER(ctypes.c_void_p).in_dll(_libc, "environ")
        index = 0
        while variables and (at := variables[index]):
            ctypes.memset(at, 0, len(ctypes.string_at(at)))
            index += 1
    os.environ.clear()


def _offer_to_the_oom_killer() -> None:
    """A machine without memory ends a worker before anything else. Inherited; a worker cannot take it back."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        return


def _name_process(name: ctypes.Array[ctypes.c_char]) -> None:
    _prctl(_PR_SET_NAME, ctypes.addressof(name))


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(option, value, 0, 0, 0)
