"""The layers of isolation around a guest: which stand on this machine, and why one does not.

The rule: a wall of the operating system counts only after a fork server has reported that it was raised. Where none
runs yet, one without an image is started for the question and ended again.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from ..wasm_sandbox.jail.cgroup import CGROUP
from ..wasm_sandbox.jail.report import PURPOSES, Record, all_missing
from .errors import ClocheError, WallMissing
from .niceness import PRIORITY
from .plain import dataclass
from .watch import can_watch

Isolation = Literal["process", "thread"]

WASM, PROCESS, WATCH = "wasm", "process", "outside-watch"
NO_JAVASCRIPT, PERMISSIONS = "no-javascript", "deno-permissions"
PROBE = "cloche.wasm_sandbox.jail.probe"
NAMES = frozenset((WASM, NO_JAVASCRIPT, PERMISSIONS, PROCESS, WATCH, CGROUP, PRIORITY, *PURPOSES))
"""Every wall that a `Policy` can require."""


@dataclass(frozen=True, slots=True)
class Wall:
    """One layer of isolation around the guest."""

    name: str
    active: bool
    why: str
    """What it keeps out, or why it is not there."""


def walls_around(isolation: Isolation, records: Sequence[Record]) -> list[Wall]:
    """All walls of this isolation; `records` is the report of the jail."""
    wasm = Wall(WASM, True, "the guest reaches no memory, file or socket of the host")
    if isolation == "thread":
        return [wasm, Wall(PROCESS, False, 'isolation="thread": the guest runs in the host process')]
    watched = can_watch()
    return [
        wasm,
        Wall(PROCESS, True, "one worker process per sandbox, killed from outside"),
        *(Wall(record.name, record.active, record.why) for record in records),
        *missing_host_walls(records),
        Wall(
            WATCH,
            watched,
            "memory and CPU time of workers are read from outside, and too much ends them"
            if watched
            else "this system does not show the memory and CPU time of a process",
        ),
    ]


def deno_walls(records: Sequence[Record], *, js_ffi: bool = False) -> list[Wall]:
    """All walls around a guest of the engine "deno"."""
    wasm, process, *rest = walls_around("process", records)
    return [*(_walls_with_javascript() if js_ffi else [wasm, *_walls_without_javascript()]), process, *rest]


def _walls_without_javascript() -> list[Wall]:
    return [
        Wall(NO_JAVASCRIPT, True, "the guest reaches no JavaScript: its imports are the host's own, by name"),
        Wall(PERMISSIONS, True, "Deno runs without any permission, and generates no code from strings"),
    ]


def _walls_with_javascript() -> list[Wall]:
    why = "js_ffi: the guest runs JavaScript; what remains are Deno's empty permissions and the jail"
    return [
        Wall(WASM, False, "js_ffi: the guest runs JavaScript beside its wasm"),
        Wall(NO_JAVASCRIPT, False, why),
        Wall(PERMISSIONS, True, "Deno runs without any permission: JavaScript opens no file, socket or process"),
    ]


def missing_host_walls(records: Sequence[Record]) -> list[Wall]:
    """What the host itself does to workers, where nobody could try it: there was none."""
    told = {record.name for record in records}
    return [Wall(name, False, "there is no worker process") for name in (PRIORITY, CGROUP) if name not in told]


def require(names: Collection[str], walls: Sequence[Wall]) -> None:
    """Raises WallMissing if a wall of that name is not active."""
    missing = [wall for wall in walls if wall.name in names and not wall.active]
    missing += [Wall(name, False, "not there") for name in sorted(set(names) - {wall.name for wall in walls})]
    if missing:
        told = "; ".join(f"{wall.name}: {wall.why}" for wall in missing)
        message = f"the policy requires walls that do not stand on this machine ({told}). {REMEDY}"
        raise WallMissing(message, walls=tuple(wall.name for wall in missing))


REMEDY = (
    "Allow what is refused (in containers: the seccomp or AppArmor profile, user.max_user_namespaces), use another "
    "kernel, or take the wall out of require_walls; `cloche doctor` lists all walls"
)


def probe() -> list[Record]:
    """The report of a jail that is raised for this question and torn down again. Takes about 0.2 s."""
    if sys.platform != "linux":
        return all_missing("the jail is made for Linux; here a worker is a bare process with resource limits at most")
    from .fork_server import ForkServer
    from .interpreter import WorkerProgram

    try:
        server = ForkServer(WorkerProgram((), PROBE))
    except (ClocheError, OSError) as exc:
        return all_missing(f"no worker process can be started: {exc}")
    server.close()
    return server.walls


def probe_deno(image: Path | None) -> list[Record]:
    """The report of a launcher of Deno workers that is started for this question and ended again."""
    from .deno_maker import deno_maker
    from .server_start import image_to_run

    try:
        server = deno_maker(image_to_run(image))
    except (ClocheError, OSError) as exc:
        return all_missing(f"no Deno worker can be started: {exc}")
    server.close()
    return server.walls
