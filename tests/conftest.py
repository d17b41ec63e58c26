"""What all tests share: which tools a marker needs, and what happens when one is missing.

Rule: a missing tool skips a test on a developer's machine and fails it in CI, where nothing may go untested unseen.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import settings

from cloche.runtime.errors import ImageError

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Ctrl-C works in the tests and in what they start, also where the suite was started in the background, which
    ignores it. And no example of hypothesis has a deadline: how long one takes says nothing on a machine that does
    other things too. The rest is as it was, which in CI is hypothesis' own profile for it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("without_deadline", settings(), deadline=None)
    settings.load_profile("without_deadline")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in (("deno", _missing_deno), ("wasmtime", _missing_image)):
        if item.get_closest_marker(marker) is not None and (reason := missing()):
            if os.environ.get("CI") == "true":
                pytest.fail(f"{marker}: {reason}", pytrace=False)
            pytest.skip(f"{marker}: {reason}")


@functools.cache
def _missing_deno() -> str | None:
    # The wheel `deno` puts it beside the interpreter, which need not be on PATH.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return None if shutil.which("deno", path=places) else "there is no deno here; `make setup` installs it"


@functools.cache
def _missing_image() -> str | None:
    from cloche.wasm_sandbox.image.store import find_image  # only tests that need an image pay for the engine

    try:
        find_image()
    except ImageError as exc:
        return f"{exc}; `make image` builds it"
    return None


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, the loop that hosts use."""
    return "asyncio"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that heeds the interrupt keeps its state, however long this machine lets it wait for a processor."""
    monkeypatch.setattr("cloche.runtime.execution.INTERRUPT_GRACE_S", 5.0)


@pytest.fixture
def late_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """The news of a worker's death, which comes from another process, may take this machine a while: until then a link
    holds it for one that only closed its channel."""
    monkeypatch.setattr("cloche.runtime.process_link.CLOSED_S", 3.0)
    monkeypatch.setattr("cloche.runtime.process_link.DEATH_NOTICE_S", 30.0)


@pytest.fixture
def chat_endpoint() -> Iterator[Callable[..., str]]:
    """Called with replies, starts an OpenAI-compatible endpoint that gives them in turn; returns its base URL."""
    with ExitStack() as stack:
        yield lambda *replies: stack.enter_context(_serve_chat(list(replies)))


@contextmanager
def _serve_chat(replies: list[str]) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/chat/completions" and replies:
                message = {"role": "assistant", "content": replies.pop(0)}
                usage = {"prompt_tokens": 10, "completion_tokens": 5}
                self._answer(200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
            else:
                self._answer(400, {"error": {"message": "no such path" if replies else "no reply is left"}})

        def _answer(self, status: int, fields: dict[str, object]) -> None:
            body = json.dumps(fields).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join(10)
