"""Where users run us: under gunicorn and uvicorn with several workers, and inside a Jupyter kernel. The real ones."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# the client of kernels has no types
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.wasmtime, pytest.mark.skipif(os.name != "posix", reason="these servers fork")]

SUPPORT = Path(__file__).resolve().parent.parent / "support"
START_S = 60.0
GUNICORN = ("-m", "gunicorn", "--workers", "2", "--threads", "4", "--timeout", "60", "web_app:wsgi")
PATIENT = "from cloche.runtime import execution\nexecution.INTERRUPT_GRACE_S = 5.0\n"
TELL = """
import sys, threading, time
main = threading.main_thread().ident

def tell(stream, text):
    threading.Thread(target=once_it_waits).start()

def once_it_waits():
    while sys._current_frames()[main].f_code.co_name not in ("_block", "_rest"):
        time.sleep(0.001)
    print("it waits for its worker", flush=True)
"""
"""An interrupt at any other moment may cost the sandbox (test_served_by_callers.py)."""
UVICORN = ("-m", "uvicorn", "web_app:asgi", "--workers", "2")


@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["plain", "preload"])
def test_gunicorn_workers_serve_sandboxes_and_leave_nothing(extra: tuple[str, ...]) -> None:
    with (
        listener() as (descriptor, port),
        server(descriptor, [*GUNICORN, "--bind", f"fd://{descriptor}", *extra], early=bool(extra)) as process,
    ):
        answers = ask_many(port, 24)
        pids = {answer["pid"] for answer in answers}

        assert {answer["value"] for answer in answers} == {"ANSWER42"}
        assert process.pid not in pids
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_uvicorn_workers_serve_sandboxes() -> None:
    with listener() as (descriptor, port), server(descriptor, [*UVICORN, "--fd", str(descriptor)]):
        answers = ask_many(port, 24)

    assert {answer["value"] for answer in answers} == {"ANSWER42"}


def test_a_kernel_runs_cells_beside_its_own_loop_and_an_interrupt_stops_one() -> None:
    with kernel() as (manager, client):
        assert (
            evaluate(client, "from cloche import AsyncSandbox, Sandbox\nbox = Sandbox()\nbox.run('6 * 7').value")
            == "42"
        )
        assert evaluate(client, "async with AsyncSandbox() as a:\n    c = await a.run('6 * 8')\nc.value") == "48"
        evaluate(client, f"{PATIENT}{TELL}0")
        loop = "box.run('print(1)\\nwhile True: pass', on_output=tell)"
        client.execute(loop, stop_on_error=False)  # else the kernel drops what comes right behind the error
        wait_for(client, "stream")
        manager.interrupt_kernel()

        assert wait_for(client, "error")["ename"] == "KeyboardInterrupt"
        assert evaluate(client, "box.run('2 + 2').value") == "4"
        assert evaluate(client, "box.close()\n'closed'") == "'closed'"


# --- web servers ------------------------------------------------------------------------------------------------------


@contextmanager
def listener() -> Generator[tuple[int, int]]:
    """A socket that listens, for a server to inherit: its descriptor and its port, which so is nobody else's.

    Who asks before the server is up waits for it.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=100) as made:
        yield made.fileno(), made.getsockname()[1]


@contextmanager
def server(
    descriptor: int, arguments: list[str], *, early: bool = False
) -> Generator[subprocess.Popen[bytes], None, None]:
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "CLOCHE_EARLY": "1" if early else "0"}
    process = subprocess.Popen(
        [sys.executable, "-P", *arguments], env=environment, start_new_session=True, pass_fds=[descriptor]
    )
    try:
        yield process
        process.terminate()
        process.wait(timeout=30)
    finally:
        with_group(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def with_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def ask_many(port: int, count: int) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: ask(port), range(count)))


def ask(port: int) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(httpx.get(f"http://127.0.0.1:{port}/", timeout=60, trust_env=False).text)
    return answer


# --- the kernel -------------------------------------------------------------------------------------------------------


@contextmanager
def kernel() -> Generator[tuple[Any, Any], None, None]:
    from jupyter_client.manager import KernelManager

    # Sockets in a folder: a port that is free when it is chosen may be somebody's by the time the kernel takes it.
    folder = tempfile.TemporaryDirectory()
    manager = KernelManager(
        kernel_name="python3", transport="ipc", connection_file=os.path.join(folder.name, "kernel.json")
    )
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_S)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        folder.cleanup()


def evaluate(client: Any, code: str) -> str:
    """The text of the last expression's value."""
    client.execute(code)
    content = wait_for(client, "execute_result")
    text: str = content["data"]["text/plain"]
    return text


def wait_for(client: Any, kind: str) -> dict[str, Any]:
    """The next message of that kind; an error that was not asked for fails the test."""
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        content: dict[str, Any] = message["content"]
        if message["msg_type"] == kind:
            return content
        if message["msg_type"] == "error":
            pytest.fail("\n".join(content["traceback"]))
    pytest.fail(f"no {kind} from the kernel")
