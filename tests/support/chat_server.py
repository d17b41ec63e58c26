"""A chat endpoint on 127.0.0.1 that answers with bytes a test wrote: the real wire format, and ways to break it.

`completion`, `chunk` and `reply` have the shapes of OpenAI's chat completions; messages_wire.py has Anthropic's.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

BOUND_S = 10.0


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.body))


Answer = bytes | Callable[[socket.socket], None]
"""Bytes to send before closing, or a function that does with the connection what it likes."""


@dataclass
class ChatServer:
    """Gives the n-th answer to the n-th request; the last one to all later ones."""

    url: str
    answers: list[Answer]
    requests: list[Received] = field(default_factory=list[Received])
    connections: int = 0
    gate: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(BOUND_S)
            while (request := read_request(connection)) is not None:
                with self.gate:
                    answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
                    self.requests.append(request)
                if callable(answer):
                    return answer(connection)
                connection.sendall(answer)
                if b"connection: close" in answer.partition(b"\r\n\r\n")[0].lower():
                    return None


@contextmanager
def chat_server(*answers: Answer) -> Generator[ChatServer]:
    """A running server. All its connections are closed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ChatServer(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", list(answers))
        open_connections: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                open_connections.append(connection)
                server.connections += 1
                threading.Thread(target=_serve_quietly, args=(server, connection), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in open_connections:
                connection.close()
            thread.join(BOUND_S)


def _serve_quietly(server: ChatServer, connection: socket.socket) -> None:
    try:
        server.serve(connection)
    except OSError:
        return  # the client went away, which is what some tests are about


def read_request(connection: socket.socket) -> Received | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (entry.partition(":") for entry in rest)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Received(line, headers, body)


def http(
    status: int, body: bytes | dict[str, object], *, close: bool = True, headers: Mapping[str, str] | None = None
) -> bytes:
    """A whole HTTP answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += ["Connection: close"] if close else []
    return "\r\n".join([*lines, "", ""]).encode() + data


def events(*data: object, done: bool = True, names: bool = False) -> bytes:
    """Server-sent events: JSON data or bytes as they are, then OpenAI's end mark. `names`: with lines `event:`."""
    lines = [entry if isinstance(entry, bytes) else _event(entry, names=names) for entry in data]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def _event(data: object, *, names: bool) -> bytes:
    name = f"event: {cast('dict[str, object]', data)['type']}\n" if names else ""
    return f"{name}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def stream(*pieces: bytes, close: bool = True, whole: bool = True, kind: str = "text/event-stream") -> bytes:
    """A chunked HTTP answer, one chunk for each piece. Not `whole`: the end is missing, as when a server dies."""
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {kind}", "Transfer-Encoding: chunked", "Cache-Control: no-cache"]
    lines += ["Connection: close"] if close else []
    head = "\r\n".join([*lines, "", ""]).encode()
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
    return head + body + (b"0\r\n\r\n" if whole else b"")


USAGE: dict[str, object] = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def chunk(
    text: str | None = None, *, finish_reason: str | None = None, usage: object = None, **delta: object
) -> dict[str, object]:
    """One `chat.completion.chunk`."""
    said = {} if text is None else {"content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "test",
        "choices": [{"index": 0, "delta": {**said, **delta}, "logprobs": None, "finish_reason": finish_reason}],
        "usage": usage,
    }


def usage_chunk(usage: object = USAGE) -> dict[str, object]:
    """The last chunk of a stream with `include_usage`: no choices, only counts."""
    return {**chunk(), "choices": [], "usage": usage}


def streamed(*texts: str, close: bool = True) -> bytes:
    """A streamed reply as OpenAI sends it."""
    said = [chunk("", role="assistant", refusal=None), *map(chunk, texts), chunk(finish_reason="stop"), usage_chunk()]
    return stream(*(events(entry, done=False) for entry in said), events(), close=close)


def call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, object]:
    """A tool call of a whole reply."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def call_part(
    index: int | None, arguments: str | None = None, *, name: str | None = None, call_id: str | None = None
) -> dict[str, object]:
    """The part of a tool call that one chunk carries."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": call_id, "type": "function" if call_id else None, "function": function}
    return {key: value for key, value in fields.items() if value is not None}


def completion(
    text: str | None, *, finish_reason: str | None = "stop", usage: object = "default", **message: object
) -> dict[str, object]:
    """The body of a chat completion as OpenAI's API documents it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "test",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, "annotations": [], **message},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": USAGE if usage == "default" else usage,
        "service_tier": "default",
    }


def reply(text: str | None, *, close: bool = True, **options: object) -> bytes:
    return http(200, completion(text, **options), close=close)  # type: ignore[arg-type]  # passed on as they are


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> bytes:
    body = {"message": message, "type": "t", "param": None, "code": None}
    return http(status, {"error": body}, headers=headers)
