"""Sandboxes where processes cannot fork: a real guest in a spawned worker; and where there is no usable image."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche import ImageError, Limits, Runtime, Sandbox, TimedOut, WorkerCrashed
from cloche.runtime import server_start, worker_makers
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.spawned_worker import WorkerSpawner
from cloche.wasm_sandbox.image.store import find_image

pytestmark = pytest.mark.wasmtime
BOUND_S = 30.0


@pytest.mark.usefixtures("patient")
def test_a_spawned_worker_runs_cells_tools_and_the_kill_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[WorkerSpawner] = []

    class Spawner(WorkerSpawner):
        def start_worker(self) -> ProcessLink:
            made.append(self)
            return super().start_worker()

    monkeypatch.setattr(server_start, "can_fork", lambda: False)
    monkeypatch.setattr(worker_makers, "WorkerSpawner", Spawner)

    def double(number: int) -> int:
        return 2 * number

    with Runtime() as runtime, runtime.sandbox(tools=[double], limits=Limits(wall_s=BOUND_S)) as box:
        assert box.run("kept = double(21)\nkept").value == 42
        with pytest.raises(TimedOut) as caught:
            box.run("while True: pass", deadline_s=0.3)
        assert caught.value.state_kept
        assert box.run("kept").value == 42
        with pytest.raises(WorkerCrashed, match=r"reset\(\) starts the sandbox afresh"):
            box.run("import os\nos._exit(3)")
        box.reset()
        assert box.run("1 + 1").value == 2
    assert made  # so that the sandboxes above were no forked ones


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_without_a_usable_image_a_sandbox_names_the_command(
    isolation: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.wasm"
    if damage == "cut":
        path.write_bytes(find_image().read_bytes()[:-1])
    elif damage == "foreign":
        path.write_bytes(b"\0asm\1\0\0\0")
    monkeypatch.setenv("CLOCHE_IMAGE", str(path))
    with Runtime() as runtime, pytest.raises(ImageError, match="cloche image build"):
        Sandbox(isolation=isolation, runtime=runtime)
