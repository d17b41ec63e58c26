"""The jail around a Deno process, attacked by JavaScript that has every permission of Deno: only the jail is left.

Each attack is made twice: in a jailed worker, where it must fail or end the worker, and in one without a jail, where it
must succeed, so that a test which would pass by itself is seen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.deno_host.find import ENVIRONMENT, find_deno, libraries
from cloche.runtime.deno_link import DenoLink
from cloche.runtime.deno_maker import LAUNCHER, RANDOM
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.limits import Limits
from cloche.runtime.watch import WorkerWatch
from cloche.wasm_sandbox.deno_launcher import Start, encode_start
from cloche.wasm_sandbox.jail import report
from cloche.wasm_sandbox.jail.deno_profile import Exhibits

pytestmark = [
    pytest.mark.deno,
    pytest.mark.security,
    pytest.mark.skipif(sys.platform != "linux", reason="the jail is made for Linux"),
]

SCRIPT = Path(__file__).resolve().parent.parent / "support" / "deno_attacks.js"
KILLED = "killed by SIGSYS"
BOUND_S = 30.0
ATTACKS = {
    "read_file /etc/passwd": "refused",
    "list_folder /": "refused",
    "look_at_file /etc/passwd": "refused",
    "write_file /tmp/pwned-deno-jail-HOST": "refused",
    "write_beside": "refused",
    "connect PORT": "refused",
    "listen": "refused",
    "run_program": "refused",
    "exec_deno": "refused",
    "fork": KILLED,
    "socket": "refused",
    "kill HOST": KILLED,
    "ptrace VICTIM": KILLED,
    "unshare": KILLED,
    "outlive": "refused",
    "own_signals": "refused",
    "descriptors": "refused",
    "limit_by_odd_pointer": "refused",
}
CONTROL_MAY_FAIL = {"exec_deno"}
"""It starts another program, which then says something else."""


class Place:
    """A launcher of the attack script."""

    def __init__(self, folder: Path, without: tuple[str, ...] = ()) -> None:
        folder.chmod(0o755)
        script = shutil.copy(SCRIPT, folder / "attack.js")
        program = find_deno().program
        found = libraries(program)
        loader = next(path for path in found if os.path.basename(path).startswith("ld-"))
        files = (*(path for path in found if path != loader), RANDOM)
        arguments = ("run", "--quiet", "--no-config", "--no-lock", "--allow-all", str(script))
        start = Start(Exhibits(program, loader, files, str(folder)), arguments, ENVIRONMENT)
        self.server = ForkServer(
            WorkerProgram((encode_start(start),), LAUNCHER), without=without, entry=LAUNCHER, link=DenoLink
        )

    def attack(self, what: str, watch: WorkerWatch | None = None) -> str:
        link = self.server.start_worker()
        if watch is not None:
            watch.add(link, Limits())
        frames: socket.socket = getattr(link, "_frames")  # noqa: B009  # bytes that are no frames
        frames.settimeout(BOUND_S)
        try:
            frames.sendall(what.encode())
            frames.shutdown(socket.SHUT_WR)
            said = b""
            while data := frames.recv(4096):
                said += data
            assert link.process.wait(BOUND_S)
        finally:
            link.close(5)
        return KILLED if link.exit_status == -signal.SIGSYS else said.decode()


@pytest.fixture(scope="module")
def jailed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("jailed"))
    yield place
    place.server.close()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("bare"), without=tuple(report.PURPOSES))
    yield place
    place.server.close()


@pytest.fixture(scope="module")
def aims() -> Iterator[dict[str, str]]:
    """What stands behind the capital words of an attack: a port that listens, this process, one that may be hit."""
    victim = os.fork()
    if victim == 0:
        signal.pause()
        os._exit(0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"PORT": str(server.getsockname()[1]), "HOST": str(os.getpid()), "VICTIM": str(victim)}
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)


def aimed(what: str, aims: dict[str, str]) -> str:
    for word, value in aims.items():
        what = what.replace(word, value)
    return what


def written() -> Path:
    """The file that only an attack makes; each process that runs tests has its own."""
    return Path(f"/tmp/pwned-deno-jail-{os.getpid()}")


@pytest.mark.parametrize("what", ATTACKS)
def test_the_jail_holds_when_deno_has_every_permission(jailed: Place, aims: dict[str, str], what: str) -> None:
    assert jailed.attack(aimed(what, aims)).startswith(ATTACKS[what])
    assert not written().exists()


@pytest.mark.parametrize("what", [name for name in ATTACKS if name not in CONTROL_MAY_FAIL])
def test_the_attack_succeeds_without_the_jail(bare: Place, aims: dict[str, str], what: str) -> None:
    if what == "ptrace VICTIM" and os.geteuid() != 0:
        pytest.skip("without root the kernel refuses this by itself")
    assert bare.attack(aimed(what, aims)).startswith("GAINED")
    written().unlink(missing_ok=True)


@pytest.mark.guarantee("G34")
def test_a_worker_with_thousands_of_threads_is_ended_from_outside(jailed: Place, bare: Place) -> None:
    """No limit of the kernel counts the threads of one process; all the machine has is some 32,768 of them."""
    assert bare.attack("threads 1000 0") == "GAINED gained 1000 threads"
    watch = WorkerWatch()
    try:
        assert jailed.attack("threads 200 3000", watch) == "GAINED gained 200 threads"
        assert jailed.attack("threads 1000 20000", watch) == ""
    finally:
        watch.close()


def test_a_jailed_deno_runs_and_sees_nothing_of_its_host(jailed: Place) -> None:
    assert jailed.attack("nothing") == "GAINED gained nothing"
    assert json.loads(jailed.attack("environment").removeprefix("GAINED ")) == ENVIRONMENT
    assert jailed.attack("machine_name") == "GAINED cloche"


def test_every_wall_but_the_one_that_an_exec_undoes_stands_for_a_host_that_is_root(jailed: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has fewer walls")
    missing = {record.name for record in jailed.server.walls if not record.active}
    assert missing == {report.UNDUMPABLE}
