"""The same small service twice, WSGI and ASGI: each request runs a cell in a sandbox of its own.

`CLOCHE_EARLY=1` uses a sandbox while the module is loaded: under `--preload` that is before the server forks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from cloche import AsyncSandbox, Sandbox


def shout(text: str) -> str:
    """The text in capitals."""
    return text.upper()


CODE = "import os\nshout('answer') + str(21 * 2)"

if os.environ.get("CLOCHE_EARLY") == "1":
    with Sandbox(tools=[shout]) as _box:
        assert _box.run(CODE).value == "ANSWER42"


def wsgi(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    with Sandbox(tools=[shout]) as box:
        value = box.run(CODE).value
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "value": value}).encode()]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # uvicorn takes it for "no lifespan here"
    async with AsyncSandbox(tools=[shout]) as box:
        cell = await box.run(CODE)
    body = json.dumps({"pid": os.getpid(), "value": cell.value}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
