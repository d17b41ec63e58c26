"""Every error that cloche raises, ordered by whose fault it is and what the caller does next.

    ClocheError
    ├── ConfigError       the call is wrong: change the arguments
    │   ├── WallMissing   a wall that the policy requires does not stand on this machine
    │   └── CannotCross   a value that may not enter or leave a sandbox; says where it sits
    ├── ImageError        the image is missing, damaged or foreign: build it again
    ├── SandboxClosed     this sandbox has ended: open another
    ├── SandboxBusy       a cell is running in it: wait for that one
    ├── SandboxFileError  a path of the sandbox's own file system cannot be read or written
    ├── UsedAfterFork     the object belongs to the parent process: make a new one here
    ├── LimitExceeded     a limit ended the call
    │   ├── TimedOut      the deadline passed; says whether the sandbox kept its state
    │   ├── OutOfMemory   the worker outgrew its cap, measured from outside
    │   └── FrameTooLarge a frame over `frame_bytes`: also a ProtocolError
    ├── WorkerCrashed     the worker ended by itself or was killed by somebody else
    ├── ProtocolError     the worker broke the protocol and was killed
    ├── PoolExhausted     a cap is reached, the tenant's or the runtime's: try again later
    ├── RuntimeClosed     the runtime was closed
    └── AgentError        the agents' own errors (agents/errors.py)

An exception of the guest's code is data (`Cell.error`), never one of these. All of them pickle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from .cell import Cell

Scope = Literal["tenant", "runtime", "machine"]


class ClocheError(Exception):
    """Root of all errors of this package."""

    code: ClassVar[str] = "cloche"
    """Stable name of the error, the same in logs and in `--json` output."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigError(ClocheError):
    """The caller asked for something that cannot be: an unknown engine, a tool without a name, ..."""

    code = "config"


class WallMissing(ConfigError):
    """A wall that the policy requires does not stand on this machine. The message says what to do."""

    code = "wall_missing"

    def __init__(self, message: str, *, walls: tuple[str, ...]) -> None:
        super().__init__(message)
        self.walls = walls
        """Names of the missing ones."""


class CannotCross(ConfigError):
    """A value outside the closed set that may enter or leave a sandbox."""

    code = "cannot_cross"

    def __init__(self, reason: str, *, path: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        """Where the culprit sits, such as `inputs['rows'][3]`."""
        self.reason = reason


class ImageError(ClocheError):
    """No usable image. The message names the command that makes one."""

    code = "image"


class SandboxClosed(ClocheError):
    """The sandbox was closed, or its worker is gone and took the state with it."""

    code = "sandbox_closed"


class SandboxBusy(ClocheError):
    """A second cell while one runs. Nothing queues silently."""

    code = "sandbox_busy"


class SandboxFileError(ClocheError):
    """A path of the sandbox's in-memory file system is missing, of the wrong kind, or over a quota."""

    code = "sandbox_file"

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class UsedAfterFork(ClocheError):
    """A sandbox or runtime of the parent process, used in a child made by `os.fork`."""

    code = "used_after_fork"


class LimitExceeded(ClocheError):
    """A limit ended the call; the three fields say which, and by how much."""

    code = "limit_exceeded"

    def __init__(self, message: str, *, limit: str, used: float, allowed: float) -> None:
        super().__init__(message)
        self.limit = limit
        """Name of the field of `Limits`."""
        self.used = used
        self.allowed = allowed


class TimedOut(LimitExceeded):
    """The deadline passed before the cell was done."""

    code = "timed_out"

    def __init__(
        self, message: str, *, used: float, allowed: float, state_kept: bool, cell: Cell | None, limit: str = "wall_s"
    ) -> None:
        super().__init__(message, limit=limit, used=used, allowed=allowed)
        self.state_kept = state_kept
        """True: the interrupt was enough and the sandbox can be used again. False: its state is gone."""
        self.cell = cell
        """What the cell had printed by then, and its error if the guest could still report one."""


class OutOfMemory(LimitExceeded):
    """The worker process outgrew its cap. (Memory used up inside the guest is a MemoryError there.)"""

    code = "out_of_memory"


class WorkerCrashed(ClocheError):
    """The worker is gone and nobody asked for it. The cell may have had effects; it is never run again silently."""

    code = "worker_crashed"

    def __init__(self, message: str, *, exit_status: int | None = None) -> None:
        super().__init__(message)
        self.exit_status = exit_status
        """Exit code, negative for a signal, None where it is not known."""


class ProtocolError(ClocheError):
    """Bytes that no honest worker sends. The worker was killed; treat what it did as hostile."""

    code = "protocol"


class FrameTooLarge(LimitExceeded, ProtocolError):
    """The worker announced a frame over `frame_bytes`. No honest one does; it was killed before a byte was stored."""

    code = "frame_too_large"

    def __init__(self, used: int, allowed: int) -> None:
        super().__init__(
            f"frame of {used} bytes, {allowed} are allowed", limit="frame_bytes", used=used, allowed=allowed
        )


MACHINE_RETRY_S = 0.5
"""The hint of `PoolExhausted` where it is the machine that is short of processes, threads or descriptors."""


class PoolExhausted(ClocheError):
    """A cap on sandboxes, workers or running cells is reached. Nothing ran: the same call can be made again."""

    code = "pool_exhausted"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float,
        scope: Scope = "machine",
        cap: str | None = None,
        allowed: int | None = None,
        tenant: str | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """A hint, in seconds."""
        self.scope = scope
        """Whose cap it is: the tenant's own, the whole runtime's, or the machine's (processes, descriptors)."""
        self.cap = cap
        """Name of the field of `TenantLimits` or `RuntimeConfig`; None for the machine."""
        self.allowed = allowed
        """Value of that field."""
        self.tenant = tenant
        """Who asked, where the cap is a tenant's; None otherwise."""


class RuntimeClosed(ClocheError):
    """The runtime was closed; make another."""

    code = "runtime_closed"


def _rebuild(cls: type[ClocheError], args: tuple[object, ...], state: dict[str, object]) -> ClocheError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error
