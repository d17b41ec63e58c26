"""What the host saw while one probe ran.

The rule: everything that a check may want to look at stands here, in one shape for cloche and for the weak sandboxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from .corpus import Probe

HEADROOM_BYTES = 64 * 2**20
"""What a host may take above what limits allow, allocator slack included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    name: str
    data: bytes


@dataclass(slots=True, kw_only=True)
class Seen:
    """One run of one probe, seen from the host."""

    probe: Probe
    outcome: str
    """"cell", the class of the error that the call raised, "hang", or "host died"."""
    message: str = ""
    """Of that error."""
    stdout: str = ""
    stderr: str = ""
    cut: bool = False
    shown: str = ""
    """`repr` of the cell, as logs and terminals get it."""
    value: object = None
    value_repr: str = ""
    value_error: str = ""
    error_type: str = ""
    error_text: str = ""
    """Message and traceback of the guest's own exception."""
    artifacts: tuple[Artifact, ...] = ()
    limits: tuple[str, ...] = ()
    wall_s: float = 0.0
    deadline_s: float = 0.0
    final_answer: bool = False
    """The probe had a tool to hand its value to."""
    output_bytes: int = 0
    """The cap of this run."""
    log: list[str] = field(default_factory=list[str])
    printed: str = ""
    """What the host process itself wrote to its stdout and stderr."""
    tool_arguments: list[object] = field(default_factory=list[object])
    """What the granted tools were called with."""
    secret_calls: int = 0
    hits: int = 0
    contacts: int = 0
    pwned: list[str] = field(default_factory=list[str])
    audit: list[str] = field(default_factory=list[str])
    """Files opened under the canary's folder and classes looked up by pickle, in the host process."""
    host_growth_bytes: int = 0
    host_budget_bytes: int = HEADROOM_BYTES
    worker_peak_bytes: int = 0
    worker_budget_bytes: int = 0
    """0: there is no worker process."""
    worker_children: int = 0
    worker_environ: int = 0
    """Bytes of the worker's environment."""
    worker_left: bool = False
    """The worker outlived its sandbox."""
    neighbour: str = ""
    """What went wrong in another sandbox meanwhile."""
    slowest_ping_s: float = 0.0
    next_session: str = ""
    """What went wrong in a fresh sandbox afterwards."""

    @property
    def said(self) -> str:
        return self.stdout + self.stderr

    def texts(self) -> dict[str, str]:
        """Everything that a caller, a log or a terminal could get to see."""
        return {
            "stdout": self.stdout,
            "stderr": self.stderr,
            "value": "\n".join(words(self.value)),
            "value_repr": self.value_repr,
            "value_error": self.value_error,
            "error": self.error_type + self.error_text,
            "message": self.message,
            "artifacts": "\n".join(words([(artifact.name, artifact.data) for artifact in self.artifacts])),
            "log": "\n".join(self.log),
            "host output": self.printed,
            "tool arguments": "\n".join(words(self.tool_arguments)),
        }


def walk(value: object) -> Iterable[object]:
    """The value and everything inside it, keys too."""
    yield value
    if isinstance(value, dict):
        for pair in cast("dict[object, object]", value).items():
            yield from walk(pair[0])
            yield from walk(pair[1])
    elif isinstance(value, list | tuple | set | frozenset):
        for item in cast("list[object]", value):
            yield from walk(item)


def words(value: object) -> Iterable[str]:
    """The texts inside; numbers cannot hold a token, and some are too large to print."""
    for item in walk(value):
        if isinstance(item, str | bytes):
            yield item if isinstance(item, str) else item.decode("latin-1")
