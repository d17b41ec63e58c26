"""`AnthropicModel`: Claude through Anthropic's messages API, with its own caching, tools and streaming. No SDK.

The wire format is in anthropic_request.py and anthropic_reply.py, the transport in endpoint.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final

from ...runtime.errors import ConfigError
from ..messages import ModelReply, ModelRequest
from ..model import OnText
from .anthropic_reply import MessagesReader
from .anthropic_request import CacheFor, message_fields
from .base import RequestModel
from .endpoint import MAX_REPLY_BYTES, STREAM_TIMEOUT_S, TIMEOUT_S, Endpoint, EndpointOptions
from .prices import PriceTable, with_cost
from .retry import Retry

if TYPE_CHECKING:
    from typing import Self

ANTHROPIC_URL: Final = "https://api.anthropic.com/v1"
API_VERSION: Final = "2023-06-01"
MAX_TOKENS: Final = 8192
"""The API needs a limit. Long enough for any step of an agent; the smallest models that allow less need their own."""


class AnthropicModel(RequestModel):
    """Claude, or what else answers at a messages endpoint. Safe to share between agents, tasks, threads and loops.

    Connections are kept per event loop; `async with model` or `await model.aclose()` closes those of the running loop.
    """

    def __init__(  # noqa: PLR0913  # options of a public constructor, all by keyword
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        max_tokens: int = MAX_TOKENS,
        temperature: float | None = None,
        cache: CacheFor | None = None,
        timeout_s: float = TIMEOUT_S,
        stream_timeout_s: float = STREAM_TIMEOUT_S,
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
            base_url: up to and with `/v1`; None: Anthropic's.
            api_key: sent as `x-api-key`. None: the variable `ANTHROPIC_API_KEY`, but only to Anthropic itself.
            max_tokens: of one reply.
            temperature: None: the endpoint's default.
            cache: have the endpoint keep the start of each request for that long, so that the next step of a run pays
                a tenth for it (and this one a quarter more, at "1h" twice as much). Short prompts are never kept.
            timeout_s: seconds for a reply that is asked for as a whole; of a streamed one, for the longest silence.
            stream_timeout_s: seconds for a streamed reply, from connecting to the last byte.
            retry: how often to try again.
            requests_per_minute: spreads the requests of this object evenly; None: no limit.
            prices: of the model's tokens, for `TokenUsage.cost_usd`; None: the cost stays unknown.
            max_reply_bytes: a longer answer is `BadReply`.
            headers: sent with each request, such as `anthropic-beta`; never shown.
            extra_body: further fields of the request, such as `{"thinking": {...}}`; they win over ours.

        Raises:
            ConfigError: the URL or a number cannot be.
        """
        if max_tokens < 1 or cache not in (None, "5m", "1h"):
            raise ConfigError("max_tokens is above 0, cache is None, '5m' or '1h'")
        options = EndpointOptions(
            timeout_s=timeout_s,
            stream_timeout_s=stream_timeout_s,
            retry=retry or Retry(),
            max_reply_bytes=max_reply_bytes,
            requests_per_minute=requests_per_minute,
        )
        self._model = model
        self._prices = prices
        self._cache: CacheFor | None = cache
        self._max_tokens = max_tokens
        self._fields = {} if temperature is None else {"temperature": temperature}
        self._extra_body = dict(extra_body or {})
        secrets = _key_headers(api_key, base_url) | dict(headers or {})
        version = {"anthropic-version": API_VERSION}
        self._endpoint = Endpoint(base_url or ANTHROPIC_URL, secret_headers=secrets, headers=version, options=options)

    @property
    def name(self) -> str:
        return self._model

    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The model's next message; streamed if there is an `on_text`. Cancelling closes the connection.

        Raises:
            ModelError: one of its subclasses says what is wrong and whether trying later helps.
            ConfigError: the request contradicts itself.
        """
        body: dict[str, object] = {
            "model": self._model,
            "max_tokens": request.max_tokens or self._max_tokens,
            **message_fields(request, cache=self._cache),
            **self._fields,
            **({"stream": True} if on_text is not None else {}),
            **self._extra_body,
        }
        reply = await self._endpoint.ask("/messages", body, MessagesReader, on_text)
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


def _key_headers(api_key: str | None, base_url: str | None) -> dict[str, str]:
    """The key as it is sent; that of the environment goes to Anthropic itself only."""
    key = api_key if api_key is not None else os.environ.get("ANTHROPIC_API_KEY") if base_url is None else None
    return {"x-api-key": key} if key else {}
