"""What the jail says about itself: one record for each wall, active or with the reason why not.

The rule: a wall counts as active only after the system call that raises it has succeeded in this very process (or, for
a worker's walls, in a trial worker). Wishes are not reported. Records cross to the host as bounded JSON.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable
from typing import cast

from ...runtime.plain import record

REPORT_BYTES = 8192
"""Bound of a whole report; each text is cut far below that."""
TEXT_BYTES = 200

PRIVILEGES = "no-new-privileges"
USER = "user"
CAPABILITIES = "capabilities"
USER_NAMESPACE = "user-namespace"
NETWORK = "network-namespace"
IPC = "ipc-namespace"
UTS = "uts-namespace"
ROOT = "empty-root"
PID = "pid-namespace"
LANDLOCK = "landlock"
SECCOMP = "seccomp"
RLIMITS = "rlimits"
UNDUMPABLE = "undumpable"

PURPOSES = {
    PRIVILEGES: "no program can give the worker more rights",
    USER: "the worker runs as a user id that owns nothing",
    USER_NAMESPACE: "what the worker is allowed counts inside a user namespace of its own",
    NETWORK: "no network device but an unconnected loopback",
    IPC: "no shared memory or message queue of this machine",
    UTS: "the name of this machine is not visible",
    ROOT: "the file system is one empty, read-only folder",
    PID: "no other process is visible; all workers die with their fork server",
    CAPABILITIES: "every capability is dropped for good",
    UNDUMPABLE: "no process of the same user may look into the worker",
    LANDLOCK: "no file can be opened and no port used, whatever the rest allows",
    RLIMITS: "memory, CPU time, file size, descriptors and processes are capped by the kernel",
    SECCOMP: "only the system calls that a running guest needs; any other kills the worker",
}
"""Every wall of the jail, in the order in which they are raised, and what it keeps out."""


@record
class Record:
    """One wall on this machine."""

    name: str
    active: bool
    why: str
    """What it keeps out, or why it is not there."""


class Report:
    """Collects records while the walls go up. A wall that is left out on purpose says so."""

    def __init__(self, without: Iterable[str] = ()) -> None:
        self._without = frozenset(without)
        self._records: dict[str, Record] = {}

    def raise_wall(self, name: str, build: Callable[[], str | None]) -> bool:
        """Run `build` and note whether it worked. Its text, if any, adds a detail to what the wall keeps out."""
        if name in self._without:
            self.missing(name, "left out by its caller")
            return False
        try:
            detail = build()
        except OSError as exc:
            self.missing(name, reason(exc))
            return False
        self.note(name, True, PURPOSES[name] + (f" ({detail})" if detail else ""))
        return True

    def missing(self, name: str, why: str) -> None:
        """Note why a wall is not there."""
        self.note(name, False, why)

    def note(self, name: str, active: bool, why: str) -> None:
        self._records[name] = Record(name, active, why[:TEXT_BYTES])

    def wants(self, name: str) -> bool:
        """False for a wall that is left out on purpose."""
        return name not in self._without

    def active(self, name: str) -> bool:
        return name in self._records and self._records[name].active

    @property
    def records(self) -> list[Record]:
        """One for each wall, also for those that nobody tried."""
        return [self._records.get(name) or Record(name, False, "not tried") for name in PURPOSES]


def all_missing(why: str) -> list[Record]:
    """The report of a system without any of it."""
    return [Record(name, False, why) for name in PURPOSES]


def encode(records: Iterable[Record]) -> bytes:
    return json.dumps([[record.name, record.active, record.why] for record in records]).encode()


def decode(data: bytes) -> list[Record]:
    """The records of a report.

    Raises:
        ValueError: it is none.
    """
    if len(data) > REPORT_BYTES:
        raise ValueError("the report is too long")
    match json.loads(data):
        case [*found]:
            return [_record(item) for item in cast("list[object]", found)]
        case _:
            raise ValueError("the report is no list")


def _record(item: object) -> Record:
    match item:
        case [str(name), bool(active), str(why)] if name in PURPOSES:
            return Record(name, active, why[:TEXT_BYTES])
        case _:
            raise ValueError("the report holds something else than walls")


def reason(exc: OSError) -> str:
    """The error in words, with advice where we have some."""
    number = exc.errno or 0
    if exc.strerror != os.strerror(number):
        return str(exc.strerror or exc)  # our own words
    return f"{exc.strerror} (errno {number}{_ADVICE.get(number, '')})"


_ADVICE = {
    errno.ENOSYS: ": this kernel is too old or built without it",
    errno.EOPNOTSUPP: ": switched off in this kernel",
    errno.ENOSPC: ": user.max_user_namespaces or its like is used up",
    errno.EPERM: ": a container profile, AppArmor or a sysctl forbids it",
    errno.EACCES: ": a container profile, AppArmor or a sysctl forbids it",
}
