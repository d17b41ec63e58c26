"""What the examples share: a web server on 127.0.0.1 in the place of a hosted service. Not an example itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qsl, urlsplit

from cloche.agents.toolkit import FetchRules


@dataclass(frozen=True)
class Asked:
    """A request."""

    base: str
    """Address of the server, without a slash at the end."""
    path: str
    query: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.body))


Answer = str | dict[str, object] | list[object] | None
"""Text as a page, data as JSON, None as "not found"."""


@contextmanager
def local_web(answer: Callable[[Asked], Answer]) -> Generator[str]:
    """A running server; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(f"http://{self.headers['Host']}", parts.path, dict(parse_qsl(parts.query)), body)
            found = answer(asked)
            kind = "text/html; charset=utf-8" if isinstance(found, str) else "application/json"
            data = (found if isinstance(found, str) else json.dumps(found)).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)


def rules_for(address: str) -> FetchRules:
    """Lets the toolkit visit this one machine and port, which it would refuse otherwise."""
    return FetchRules(allow=("127.0.0.1/32",), ports=frozenset({urlsplit(address).port or 80}))
