"""`OpenAIModel`: any endpoint that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp, TGI, gateways, OpenAI).

The rule: whatever the endpoint sends, a caller sees a `ModelReply` or a `ModelError`, within the time and size that
were given, and no error ever shows the key.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, cast

import anyio
import anyio.lowlevel
import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from ...runtime.errors import ConfigError
from ..errors import BadReply, ModelDenied, ModelError, ModelRateLimited, ModelRefused, ModelUnavailable
from ..messages import FinishReason, Message, ModelReply, TokenUsage
from ..model import OnText
from .retry import Retry, read_retry_after

if TYPE_CHECKING:
    from typing import Self

OPENAI_URL: Final = "https://api.openai.com/v1"
MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
"""A reply of 100 000 tokens is below 1 MiB; the rest is room for what gateways add."""
_CONNECT_S: Final = 10.0
_ERROR_CHARS: Final = 500
_BACK_OFF: Final = frozenset({408, 409, 425, 500, 502, 503, 504, 520, 522, 524, 529})
"""Statuses that another try may mend; 429 has an error of its own."""


class _PromptDetails(BaseModel):
    cached_tokens: int | None = Field(None, ge=0)


class _CompletionDetails(BaseModel):
    reasoning_tokens: int | None = Field(None, ge=0)


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(0, ge=0)
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Part(BaseModel):
    text: str = ""


class _Answer(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Answer
    finish_reason: str | None = None


class _Completion(BaseModel):
    """The part of a chat completion that we read; endpoints add much else."""

    model_config = ConfigDict(extra="ignore")
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class OpenAIModel:
    """A chat model behind an OpenAI-compatible endpoint. Safe to share between agents, tasks, threads and loops.

    Connections are kept per event loop; `async with model` or `await model.aclose()` closes those of the running loop.
    """

    def __init__(  # noqa: PLR0913  # options of a public constructor, all by keyword
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float = 120.0,
        retry: Retry | None = None,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            model: the endpoint's name of the model.
            base_url: up to and with `/v1`; None: OpenAI's.
            api_key: sent as a bearer token. None: the variable `OPENAI_API_KEY`, but only to OpenAI itself.
            temperature: None: the endpoint's default.
            max_tokens: of one reply; sent as `max_completion_tokens` to OpenAI, as `max_tokens` to others.
            timeout_s: seconds for one request, from connecting to the last byte.
            retry: how often to try again.
            max_reply_bytes: a longer answer is `BadReply`.
            headers: sent with each request; never shown.
            extra_body: further fields of the request, such as `{"seed": 1}`; they win over ours.

        Raises:
            ConfigError: the URL or a number cannot be.
        """
        if not timeout_s > 0 or max_reply_bytes < 1:
            raise ConfigError("timeout_s and max_reply_bytes are above 0")
        self._model = model
        self._url = _checked_url(base_url or OPENAI_URL)
        at_openai = base_url is None
        key = api_key if api_key is not None else os.environ.get("OPENAI_API_KEY") if at_openai else None
        self._key = SecretStr(key or "")
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._retry = retry or Retry()
        self._max_reply_bytes = max_reply_bytes
        limit_name = "max_completion_tokens" if at_openai else "max_tokens"
        fields = {"temperature": temperature, limit_name: max_tokens}
        self._body = {name: value for name, value in fields.items() if value is not None} | dict(extra_body or {})
        self._clients: weakref.WeakKeyDictionary[object, httpx.AsyncClient] = weakref.WeakKeyDictionary()

    @property
    def name(self) -> str:
        return self._model

    async def complete(
        self, messages: Sequence[Message], *, stop: Sequence[str] = (), on_text: OnText | None = None
    ) -> ModelReply:
        """The model's next message, asked for as a whole (`on_text` is not used).

        Raises:
            ModelError: one of its subclasses says what is wrong and whether trying later helps.
        """
        body: dict[str, object] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            **({"stop": list(stop)} if stop else {}),
            **self._body,
        }
        try:
            content = json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError) as exc:
            raise ConfigError(f"extra_body is no JSON: {exc}") from exc
        return await self._retry.run(lambda: self._ask(content))

    async def aclose(self) -> None:
        """Close the connections of the running loop. The model can be used again."""
        client = self._clients.pop(_loop(), None)
        if client is not None:
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._model!r} at {self._url}>"

    # --- one request --------------------------------------------------------------------------------------------------

    async def _ask(self, content: bytes) -> ModelReply:
        try:
            with anyio.fail_after(self._timeout_s):
                status, retry_after, data = await self._post(content)
        except TimeoutError as exc:
            raise ModelUnavailable(f"{self._url}: no answer within {self._timeout_s:g} s") from exc
        except httpx.TransportError as exc:
            raise ModelUnavailable(self._safe(f"{self._url}: {type(exc).__name__}: {exc}")) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise BadReply(self._safe(f"{self._url}: {type(exc).__name__}: {exc}")) from exc
        if status != 200:
            raise self._failure(status, retry_after, data)
        return self._read(data)

    async def _post(self, content: bytes) -> tuple[int, str | None, bytes]:
        async with self._client().stream("POST", f"{self._url}/chat/completions", content=content) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise BadReply(
                    "the endpoint sent a compressed answer that was not asked for", status=response.status_code
                )
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > self._max_reply_bytes:
                    raise BadReply(
                        f"the answer is longer than {self._max_reply_bytes} bytes", status=response.status_code
                    )
            return response.status_code, response.headers.get("retry-after"), bytes(data)

    def _client(self) -> httpx.AsyncClient:
        """The client of the running loop: connections cannot be used on another."""
        loop = _loop()
        client = self._clients.get(loop)
        if client is None:
            headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
            key = self._key.get_secret_value()
            if key:
                headers["authorization"] = f"Bearer {key}"
            # `_ask` holds the total time; redirects are not followed, the key belongs to this address only.
            timeout = httpx.Timeout(self._timeout_s, connect=min(_CONNECT_S, self._timeout_s))
            client = httpx.AsyncClient(headers={**headers, **self._headers}, timeout=timeout)
            self._clients[loop] = client
        return client

    def _failure(self, status: int, retry_after: str | None, data: bytes) -> ModelError:
        message = self._safe(f"{self._url} answered {status}: {_error_text(data)}")
        if status == 429:
            return ModelRateLimited(message, retry_after_s=read_retry_after(retry_after))
        if status in (401, 403):
            return ModelDenied(message, status=status)
        if status in _BACK_OFF or status >= 500:
            wait_s = read_retry_after(retry_after)
            if wait_s is not None:
                return ModelRateLimited(message, status=status, retry_after_s=wait_s)
            return ModelUnavailable(message, status=status)
        if 400 <= status < 500:
            return ModelRefused(message, status=status)
        return BadReply(message, status=status)

    def _read(self, data: bytes) -> ModelReply:
        try:
            completion = _Completion.model_validate_json(data)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(map(str, first["loc"]))
            shown = _error_text(data)
            raise BadReply(
                self._safe(f"{self._url}: no chat completion ({first['msg']} at {place!r}): {shown}")
            ) from None
        choice = completion.choices[0]
        return ModelReply(
            text=_text(choice.message), usage=_usage(completion.usage), finish_reason=_finish(choice.finish_reason)
        )

    def _safe(self, text: str) -> str:
        """The text without key or private headers, should an endpoint or a library echo one."""
        for secret in (self._key.get_secret_value(), *self._headers.values()):
            if len(secret) >= 4:
                text = text.replace(secret, "***")
        return text


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as exc:
        raise ConfigError(f"base_url: {exc}") from exc
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"base_url is an http or https address, not {url!r:.200}")
    if parsed.userinfo:
        raise ConfigError("base_url holds a user or password; use api_key or headers")
    return url.rstrip("/")


def _loop() -> object:
    return anyio.lowlevel.current_token().native_token


def _text(answer: _Answer) -> str:
    if isinstance(answer.content, list):
        return "".join(part.text for part in answer.content)
    return answer.content or answer.refusal or ""


def _finish(reason: str | None) -> FinishReason:
    return "stop" if reason in ("stop", None) else "length" if reason == "length" else "other"


def _usage(usage: _Usage | None) -> TokenUsage | None:
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return TokenUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=(prompt.cached_tokens if prompt else None) or 0,
        reasoning_tokens=(completion.reasoning_tokens if completion else None) or 0,
    )


def _error_text(data: bytes) -> str:
    """What an error answer says, in the forms that endpoints use; never more than a few lines."""
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        found = data[: 4 * _ERROR_CHARS].decode("utf-8", errors="replace")
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = cast("dict[str, object]", found)[key]
    text = found if isinstance(found, str) else json.dumps(found)[: 4 * _ERROR_CHARS]
    text = " ".join(text.split())
    return text if len(text) <= _ERROR_CHARS else text[:_ERROR_CHARS] + "..."
