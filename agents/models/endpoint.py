"""`Endpoint`: one HTTP address that models answer at, with its secrets, its limits and its failures.

The rule: whatever comes back, a caller sees a `ModelReply` or a `ModelError`, within the time and size that were given,
and no text shows a secret. The wire format is the reader's business (wire.py).
"""

from __future__ import annotations

import json
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import anyio
import anyio.lowlevel
import httpx
from pydantic import SecretStr

from ...runtime.errors import ConfigError
from ..errors import BadReply, ModelDenied, ModelError, ModelRateLimited, ModelRefused, ModelUnavailable
from ..messages import ModelReply
from ..model import OnText
from .given import GivenText
from .pace import Pace
from .retry import Retry, read_retry_after
from .sse import EventTooLong, SseReader
from .wire import Malformed, ReplyReader, Reported

TIMEOUT_S: Final = 120.0
STREAM_TIMEOUT_S: Final = 900.0
MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
"""A reply of 100 000 tokens is below 1 MiB; the rest is room for what gateways add."""
STREAM_OVERHEAD: Final = 16
"""A stream may have so many times the bytes of a whole reply: each token comes in an event of its own."""
_CONNECT_S: Final = 10.0
_DRAIN_S: Final = 0.25
_ERROR_CHARS: Final = 500
_ERROR_BYTES: Final = 64 * 1024
_BACK_OFF: Final = frozenset({408, 409, 425})
"""Statuses below 500 that another try may mend; 429 has an error of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """How to talk to an endpoint; the same for every model class that speaks HTTP itself."""

    timeout_s: float = TIMEOUT_S
    """Seconds for a reply that is asked for as a whole; of a streamed one, for the longest silence in it."""
    stream_timeout_s: float = STREAM_TIMEOUT_S
    """Seconds for a streamed reply, from connecting to the last byte."""
    retry: Retry = field(default_factory=Retry)
    max_reply_bytes: int = MAX_REPLY_BYTES
    requests_per_minute: float | None = None
    """Spreads the requests of this object evenly, repeated ones included; None: no limit."""

    def __post_init__(self) -> None:
        if not (self.timeout_s > 0 and self.stream_timeout_s > 0 and self.max_reply_bytes > 0):
            raise ConfigError("timeout_s, stream_timeout_s and max_reply_bytes are above 0")


class Endpoint:
    """Safe to share between tasks, threads and loops: connections are kept per event loop."""

    def __init__(
        self,
        url: str,
        *,
        secret_headers: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        options: EndpointOptions,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: what all paths begin with.
            secret_headers: sent with each request and cut out of every text; they win over `headers`.
            headers: sent with each request.
            options: times, sizes and how often to try.

        Raises:
            ConfigError: the address cannot be.
        """
        self.url: Final = _checked_url(url)
        self._secrets = {name: SecretStr(value) for name, value in secret_headers.items()}
        self._headers = {"content-type": "application/json", "accept-encoding": "identity", **(headers or {})}
        self._options = options
        self._pace = Pace(options.requests_per_minute)
        self._clients: weakref.WeakKeyDictionary[object, httpx.AsyncClient] = weakref.WeakKeyDictionary()

    async def ask(
        self, path: str, body: Mapping[str, object], new_reader: Callable[[], ReplyReader], on_text: OnText | None
    ) -> ModelReply:
        """POST the body until there is a reply or no hope. Text that was given out is never given out twice.

        Args:
            path: below the address, with its query.
            body: JSON data; its `stream` says which kind of answer is asked for.
            new_reader: makes the reader of one attempt.
            on_text: gets the text as it comes.

        Raises:
            ModelError: one of its subclasses says what is wrong and whether trying later helps.
            ConfigError: the body is no JSON.
        """
        try:
            content = json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise ConfigError(f"the request is no JSON (extra_body, tools, response_format): {exc}") from exc
        given = GivenText(on_text)
        is_stream = body.get("stream") is True

        async def attempt() -> ModelReply:
            await self._pace.wait()
            outcome = await self._attempt(path, content, new_reader(), given, is_stream=is_stream)
            if isinstance(outcome, ModelError):
                raise outcome
            return outcome

        return await self._options.retry.run(attempt, may_repeat=lambda: not given.began)

    async def aclose(self) -> None:
        """Close the connections of the running loop. The endpoint can be used again."""
        client = self._clients.pop(_loop(), None)
        if client is not None:
            await client.aclose()

    # --- one request --------------------------------------------------------------------------------------------------

    async def _attempt(
        self, path: str, content: bytes, reader: ReplyReader, given: GivenText, *, is_stream: bool
    ) -> ModelReply | ModelError:
        """The error is given back, not raised here, so that none of the exceptions of httpx hangs on it: they hold the
        request with its key."""
        options = self._options
        try:
            with anyio.fail_after(options.stream_timeout_s if is_stream else options.timeout_s):
                return await self._exchange(path, content, reader, given, is_stream=is_stream)
        except ModelError as exc:
            return exc
        except TimeoutError:
            what = (
                f"no end within {options.stream_timeout_s:g}"
                if is_stream
                else f"no answer within {options.timeout_s:g}"
            )
            return ModelUnavailable(f"{self.url}: {what} s")
        except httpx.ReadTimeout:
            return ModelUnavailable(f"{self.url}: silent for {options.timeout_s:g} s")
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            told = self._safe(f"{self.url}: {type(exc).__name__}: {exc}".rstrip(": "))
            return ModelUnavailable(told + is_it_running(self.url))
        except httpx.TransportError as exc:
            return ModelUnavailable(self._safe(f"{self.url}: {type(exc).__name__}: {exc}"))
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return BadReply(self._safe(f"{self.url}: {type(exc).__name__}: {exc}"))
        except Malformed as exc:
            return BadReply(self._safe(f"{self.url}: {exc}: ") + self._excerpt(exc.data))
        except EventTooLong:
            return self._too_long()
        except Reported as exc:
            return failure(exc.status, None, f"{self.url} reported: {self._excerpt(exc.data)}")

    async def _exchange(
        self, path: str, content: bytes, reader: ReplyReader, given: GivenText, *, is_stream: bool
    ) -> ModelReply:
        async with self._client().stream(
            "POST",
            f"{self.url}{path}",
            content=content,
            headers={"accept": "text/event-stream" if is_stream else "application/json"},
            timeout=self._silence(is_stream=is_stream),
        ) as response:
            status = response.status_code
            if response.headers.get("content-encoding", "identity") != "identity":
                raise BadReply("the endpoint sent a compressed answer that was not asked for", status=status)
            if status != 200:
                shown = self._excerpt(await self._read_error(response))
                raise failure(status, _retry_after(response), f"{self.url} answered {status}: {shown}")
            if "text/event-stream" in response.headers.get("content-type", "").lower():
                return await self._read_events(response.aiter_raw(), reader, given)
            reply = reader.read_whole(await self._read_whole(response.aiter_raw()))
        given(reply.text)
        return reply

    async def _read_events(self, pieces: AsyncIterator[bytes], reader: ReplyReader, given: GivenText) -> ModelReply:
        limit, total = self._options.max_reply_bytes, 0
        events = SseReader(limit)
        async for piece in pieces:
            total += len(piece)
            if total > STREAM_OVERHEAD * limit:
                raise self._too_long()
            for event in events.feed(piece):
                given(reader.read_event(event))
                if reader.chars > limit:
                    raise self._too_long()
            if reader.is_over:
                await _drain(pieces)
                break
        reply = reader.finish()
        if reply is None:
            raise ModelUnavailable(f"{self.url}: the stream broke off before the end of the reply")
        return reply

    async def _read_whole(self, pieces: AsyncIterator[bytes]) -> bytes:
        data = bytearray()
        async for piece in pieces:
            data += piece
            if len(data) > self._options.max_reply_bytes:
                raise self._too_long()
        return bytes(data)

    async def _read_error(self, response: httpx.Response) -> bytes:
        """The start of it; who sends more is not listened to."""
        data = bytearray()
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > _ERROR_BYTES:
                break
        return bytes(data[:_ERROR_BYTES])

    def _client(self) -> httpx.AsyncClient:
        """The client of the running loop: connections cannot be used on another."""
        loop = _loop()
        client = self._clients.get(loop)
        if client is None:
            headers = {name.lower(): value for name, value in self._headers.items()}
            headers |= {name.lower(): value.get_secret_value() for name, value in self._secrets.items()}
            client = httpx.AsyncClient(headers=headers)  # no redirects: the key belongs to this address only
            self._clients[loop] = client
        return client

    def _silence(self, *, is_stream: bool) -> httpx.Timeout:
        """How long a step may take. `_attempt` holds the time of the whole."""
        limit_s = self._options.timeout_s
        return httpx.Timeout(None, connect=min(_CONNECT_S, limit_s), read=limit_s if is_stream else None)

    def _excerpt(self, data: bytes) -> str:
        """What the bytes say, in a few lines. Secrets go before anything is cut, lest a part of one stays."""
        return self._safe(_short(self._safe(_message_in(self._safe(data.decode("utf-8", errors="replace"))))))

    def _too_long(self) -> BadReply:
        return BadReply(f"the answer is longer than {self._options.max_reply_bytes} bytes")

    def _safe(self, text: str) -> str:
        """The text without secrets, should an endpoint or a library echo one."""
        return without(text, [value.get_secret_value() for value in self._secrets.values()])


def failure(status: int | None, retry_after: str | None, message: str) -> ModelError:
    """The error that fits an HTTP status; None: something that may pass went wrong."""
    retry_after_s = read_retry_after(retry_after)
    if status == 429:
        return ModelRateLimited(message, retry_after_s=retry_after_s)
    if status in (401, 403):
        return ModelDenied(message, status=status)
    if status is None or status in _BACK_OFF or status >= 500:
        if retry_after_s is not None:
            return ModelRateLimited(message, status=status, retry_after_s=retry_after_s)
        return ModelUnavailable(message, status=status)
    if 400 <= status < 500:
        return ModelRefused(message, status=status)
    return BadReply(message, status=status)


def without(text: str, secrets: list[str]) -> str:
    """The text with the secrets replaced; also what follows the scheme of one, such as the key after `Bearer `."""
    for secret in secrets:
        for shape in (secret, secret.rpartition(" ")[2]):
            if len(shape) >= 4:
                text = text.replace(shape, "***")
    return text


def _message_in(text: str) -> str:
    """The message of an error answer, in the forms that endpoints use; else all of it."""
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = cast("dict[str, object]", found)[key]
    return found if isinstance(found, str) else json.dumps(found)


def _short(text: str) -> str:
    text = " ".join(text[: 8 * _ERROR_CHARS].split())
    return text if len(text) <= _ERROR_CHARS else text[:_ERROR_CHARS] + "..."


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    """Take what is left after the end of a reply, so that the connection can be used again; not for long."""
    with anyio.move_on_after(_DRAIN_S):
        left = _ERROR_BYTES
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                return


def _retry_after(response: httpx.Response) -> str | None:
    plain, milliseconds = (cast("str | None", response.headers.get(name)) for name in ("retry-after", "retry-after-ms"))
    try:
        return plain if milliseconds is None else str(float(milliseconds) / 1000)
    except ValueError:
        return plain


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as exc:
        raise ConfigError(f"base_url: {exc}") from exc
    if parsed.userinfo:
        raise ConfigError("base_url holds a user or password; use api_key or headers")
    if parsed.query or parsed.fragment:
        raise ConfigError("base_url ends before ? and #, paths are appended; a key belongs into api_key or headers")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"base_url is an http or https address, not {url!r:.200}")
    return url.rstrip("/")


def is_it_running(url: str) -> str:
    """What to ask whoever cannot connect. Host and port only: some addresses have a key in the path."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "; is the address right?"
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"; is the server running at {host}:{parsed.port or (443 if parsed.scheme == 'https' else 80)}?"


def _loop() -> object:
    return anyio.lowlevel.current_token().native_token
