"""What one sandbox may use. Every limit is on by default and held by the host.

Time, output and tool-call limits count per cell; memory, files and tasks per sandbox. `docs/limits.md` has the same
table with what happens at each limit.
"""

from __future__ import annotations

from .bounded import Bounded, bounded
from .errors import ConfigError
from .framing import MAX_ATTACHMENTS, MAX_HEADER_BYTES
from .plain import dataclass

KIB = 1024
MIB = 1024 * KIB
FRAME_ROOM_BYTES = MAX_HEADER_BYTES + 64 * KIB
"""Header and overhead of the longest honest frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Bounded):
    """Caps of one sandbox. All fields are keyword-only; a wrong one raises `ConfigError`."""

    wall_s: float = bounded(30.0, gt=0, le=86_400)
    """Wall-clock seconds of one cell, from the call of `run` to its answer; tool calls do not extend it."""
    cpu_s: float = bounded(30.0, gt=0, le=86_400)
    """CPU seconds that a worker may burn in one cell (process isolation)."""
    memory_mb: int = bounded(256, ge=64, le=4095)
    """MiB of linear memory, the interpreter's own 40 MiB included. Above it the guest sees MemoryError."""
    output_bytes: int = bounded(1 * MIB, ge=0, le=256 * MIB)
    """Bytes of stdout and stderr together that one cell may produce; the rest is cut and marked."""
    value_bytes: int = bounded(16 * MIB, ge=KIB, le=256 * MIB)
    """Host bytes that one decoded value (argument, result, input, last expression) may take."""
    value_depth: int = bounded(100, ge=1, le=400)
    """Nesting of one value."""
    int_digits: int = bounded(4300, ge=20, le=100_000)
    """Decimal digits of one integer or Decimal that crosses."""
    frame_bytes: int = bounded(40 * MIB, ge=1 * MIB, le=512 * MIB)
    """Bytes of one frame from a worker. No honest one sends a longer one: it must hold `value_bytes` and
    `artifact_bytes`, and `FRAME_ROOM_BYTES` beside them."""
    files: int = bounded(1000, ge=0, le=100_000)
    """Files and directories that the guest may create."""
    file_bytes: int = bounded(64 * MIB, ge=0, le=1024 * MIB)
    """Bytes of all files that the guest wrote."""
    artifacts: int = bounded(100, ge=0, le=MAX_ATTACHMENTS)
    """Files under /out that one cell may hand back."""
    artifact_bytes: int = bounded(16 * MIB, ge=0, le=256 * MIB)
    """Bytes of the files under /out that one cell may hand back."""
    tool_calls: int = bounded(10_000, ge=0, le=10_000_000)
    """Tool calls of one cell."""
    tool_bytes_in: int = bounded(64 * MIB, ge=0, le=4096 * MIB)
    """Bytes of arguments of all tool calls of one cell, as sent."""
    tool_bytes_out: int = bounded(64 * MIB, ge=0, le=4096 * MIB)
    """Bytes of results of all tool calls of one cell, as sent."""
    tool_s: float = bounded(30.0, gt=0, le=86_400)
    """Seconds of one tool call, where the host can enforce them (async tools and `.aio` calls)."""
    concurrent_tool_calls: int = bounded(64, ge=1, le=10_000)
    """`.aio` calls that may be open at once."""
    tasks: int = bounded(1000, ge=1, le=100_000)
    """asyncio tasks that may be alive at once in the guest."""
    code_bytes: int = bounded(1 * MIB, ge=1, le=64 * MIB)
    """Bytes of the source of one cell."""

    def __post_init__(self) -> None:
        self.check()
        for name, size in (("value_bytes", self.value_bytes), ("artifact_bytes", self.artifact_bytes)):
            if self.frame_bytes < size + FRAME_ROOM_BYTES:
                raise ConfigError(f"Limits.frame_bytes is at least {size + FRAME_ROOM_BYTES} with {name}={size}")


def longest_frame(limits: Limits) -> int:
    """Bytes of the longest frame of any request: one file may be as large as all files together."""
    return max(limits.frame_bytes, limits.file_bytes + MAX_HEADER_BYTES + 8)


def check_limits(limits: object) -> None:
    """Raises ConfigError if these are no `Limits`, nor None."""
    if limits is not None and not isinstance(limits, Limits):
        raise ConfigError(f"limits is Limits, such as Limits(wall_s=10), not {limits!r:.100}")
