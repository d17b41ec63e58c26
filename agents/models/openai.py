"""`OpenAIModel`: any endpoint that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp, TGI, gateways, OpenAI).

The wire format is in openai_request.py and openai_reply.py, the transport in endpoint.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypedDict

from ..messages import ModelReply, ModelRequest
from ..model import OnText
from .base import RequestModel
from .endpoint import MAX_REPLY_BYTES, STREAM_TIMEOUT_S, TIMEOUT_S, Endpoint, EndpointOptions
from .openai_reply import ChatReader
from .openai_request import chat_fields
from .prices import PriceTable, with_cost
from .retry import Retry

if TYPE_CHECKING:
    from typing import Self

OPENAI_URL: Final = "https://api.openai.com/v1"


class OpenAIOptions(TypedDict, total=False):
    """The options that the classes built on `OpenAIModel` pass on to it."""

    temperature: float | None
    max_tokens: int | None
    timeout_s: float
    stream_timeout_s: float
    stream_usage: bool
    retry: Retry | None
    requests_per_minute: float | None
    prices: PriceTable | None
    max_reply_bytes: int
    headers: Mapping[str, str] | None
    extra_body: Mapping[str, object] | None


class OpenAIModel(RequestModel):
    """A chat model behind an OpenAI-compatible endpoint. Safe to share between agents, tasks, threads and loops.

    Connections are kept per event loop; `async with model` or `await model.aclose()` closes those of the running loop.
    """

    _path = "/chat/completions"
    _limit_name = "max_tokens"
    """Of most endpoints; OpenAI's own newer models refuse it."""

    def __init__(  # noqa: PLR0913  # options of a public constructor, all by keyword
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float = TIMEOUT_S,
        stream_timeout_s: float = STREAM_TIMEOUT_S,
        stream_usage: bool = True,
        retry: Retry | None = None,
        requests_per_minute: float | None = None,
        prices: PriceTable | None = None,
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
            timeout_s: seconds for a reply that is asked for as a whole; of a streamed one, for the longest silence.
            stream_timeout_s: seconds for a streamed reply, from connecting to the last byte.
            stream_usage: ask for the token counts of streamed replies; False for an endpoint that refuses the field
                `stream_options`, whose usage is then unknown.
            retry: how often to try again.
            requests_per_minute: spreads the requests of this object evenly; None: no limit.
            prices: of the model's tokens, for `TokenUsage.cost_usd`; None: the cost stays unknown.
            max_reply_bytes: a longer answer is `BadReply`.
            headers: sent with each request; never shown.
            extra_body: further fields of the request, such as `{"seed": 1}`; they win over ours.

        Raises:
            ConfigError: the URL or a number cannot be.
        """
        at_openai = base_url is None
        key = api_key if api_key is not None else os.environ.get("OPENAI_API_KEY") if at_openai else None
        options = EndpointOptions(
            timeout_s=timeout_s,
            stream_timeout_s=stream_timeout_s,
            retry=retry or Retry(),
            max_reply_bytes=max_reply_bytes,
            requests_per_minute=requests_per_minute,
        )
        self._model = model
        self._prices = prices
        self._stream_usage = stream_usage
        if at_openai:
            self._limit_name = "max_completion_tokens"
        fields = {"temperature": temperature, self._limit_name: max_tokens}
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._extra_body = dict(extra_body or {})
        self._endpoint = Endpoint(
            base_url or OPENAI_URL, secret_headers=self._key_headers(key or "") | dict(headers or {}), options=options
        )

    @property
    def name(self) -> str:
        return self._model

    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The model's next message; streamed if there is an `on_text`. Cancelling closes the connection.

        Raises:
            ModelError: one of its subclasses says what is wrong and whether trying later helps.
            ConfigError: the request contradicts itself.
        """
        body: dict[str, object] = {"model": self._model, **chat_fields(request), **self._fields}
        if request.max_tokens is not None:
            body[self._limit_name] = request.max_tokens
        if on_text is not None:
            body["stream"] = True
            if self._stream_usage:
                body["stream_options"] = {"include_usage": True}
        reply = await self._endpoint.ask(self._path, body | self._extra_body, ChatReader, on_text)
        return with_cost(reply, self._prices, self._model)

    async def aclose(self) -> None:
        """Close the connections of the running loop. The model can be used again."""
        await self._endpoint.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._model!r} at {self._endpoint.url}>"

    def _key_headers(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}
