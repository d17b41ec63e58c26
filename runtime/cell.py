"""What one cell gave back: plain frozen data, safe to keep, compare and pickle.

The rule: everything here was bounded by the host, and what came from the guest is data. Text and names of artifacts may
still be chosen by an attacker: escape them before a browser or a terminal shows them.
"""

from __future__ import annotations

from .metadata import Metadata
from .plain import dataclass, field
from .protocol import GuestError

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that the cell left under /out."""

    name: str
    """Chosen by the host from the guest's file name: one path component, unique in its cell, safe to save under."""
    path: str
    """The guest's own path, control characters escaped. For people to read; never a path of the host."""
    mime: str
    """By the ending of `name`; nothing looked into the bytes."""
    data: bytes = field(repr=False)
    sha256: str
    """Of `data`, hexadecimal."""


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A limit that the cell ran into and went on, or ended with an exception of its own; the sandbox lives on."""

    limit: str
    """Name of the field of `Limits`."""
    used: float
    """What was asked for, as far as it was counted; at its highest if the limit was hit more than once."""
    allowed: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What the cell used."""

    wall_s: float = 0.0
    """Seconds from the request to its end."""
    waited_s: float = 0.0
    """Of these, how many it waited for its turn, because its tenant ran as many cells as it may."""
    cpu_s: float = 0.0
    """CPU seconds of the guest, as the worker measured them; 0 when it did not end in order."""
    memory_bytes: int = 0
    """Linear memory of the sandbox at the end; 0 when it did not end in order."""
    output_bytes: int = 0
    """Bytes printed, those that were cut included."""
    tool_calls: int = 0
    """Tool calls asked for, refused ones included."""
    tool_s: float = 0.0
    """Seconds spent in tools, summed over calls that may have run side by side."""
    tool_bytes_in: int = 0
    """Bytes of arguments, as sent."""
    tool_bytes_out: int = 0
    """Bytes of results, as sent."""
    tools_abandoned: int = 0
    """Calls of blocking tools that were still running when nobody waited for them any more; they cannot be stopped."""


@dataclass(frozen=True, slots=True)
class Cell:
    """How one cell ended. `ok` is True when the guest's code raised nothing."""

    value: object = None
    """The last expression, if it can cross; None otherwise (then `value_error` says why)."""
    value_repr: str | None = None
    """The last expression as text made in the guest, bounded; None when there was none or it was None."""
    value_error: str | None = None
    """Why the last expression could not cross."""
    stdout: str = ""
    stderr: str = ""
    output_cut: bool = False
    """Whether stdout or stderr lost something at `output_bytes`; a mark stands where."""
    error: GuestError | None = None
    """The exception that ended the code: `type`, `message`, `traceback`, `line`."""
    artifacts: tuple[Artifact, ...] = ()
    artifacts_dropped: int = 0
    """Files under /out that did not fit the caps."""
    limits: tuple[LimitHit, ...] = ()
    """Limits that the cell ran into, each once, also those whose exception the guest caught (docs/limits.md)."""
    usage: Usage = Usage()
    interrupted: bool = False
    """The guest saw an interrupt, whether or not it swallowed it."""
    ended_by: str | None = None
    """Name of the tool with `end_cell` that ended the cell."""
    complete: bool = True
    """False: the cell was cut off, and this is what had arrived by then."""
    metadata: Metadata | None = field(default=None, compare=False, repr=False)
    """Versions, image and walls that it ran with: one object shared by all cells of a runtime. None for a cell that no
    sandbox made. Two cells with the same contents are equal whatever they ran on."""

    @property
    def ok(self) -> bool:
        """Whether the code ran to its end without an exception."""
        return self.complete and self.error is None

    def __repr__(self) -> str:
        """The parts that are there, each on a short leash."""
        parts = [f"value={_short(self.value_repr if self.value_repr is not None else repr(self.value))}"]
        if self.error is not None:
            parts = [f"error={_short(f'{self.error.type}: {self.error.message}')}"]
        parts += [f"{name}={_short(repr(text))}" for name in ("stdout", "stderr") if (text := getattr(self, name))]
        if self.artifacts:
            parts.append(f"artifacts={_short(repr([artifact.name for artifact in self.artifacts]))}")
        if self.limits:
            parts.append(f"limits={[hit.limit for hit in self.limits]}")
        parts += [flag for flag in ("interrupted", "output_cut") if getattr(self, flag)]
        if not self.complete:
            parts.append("incomplete")
        return f"<Cell {'ok' if self.ok else 'failed'} {' '.join(parts)} {self.usage.wall_s:.3f}s>"


def _short(text: str) -> str:
    """Cut, and on one line: a cell's repr ends up in terminals and logs, and this text is the guest's."""
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
