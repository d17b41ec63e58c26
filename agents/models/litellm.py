"""`LiteLLMModel`: any provider that LiteLLM knows. Needs the extra `cloche[litellm]`, which is imported on first use.

LiteLLM's releases were taken over by attackers more than once. The bad ones are refused here by version, before
anything of them is imported; requirements should pin a hash all the same.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

import anyio
import anyio.to_thread

from ...runtime.errors import ConfigError
from ...runtime.extras import install_command
from ..errors import BadReply, ModelError, ModelUnavailable
from ..messages import ModelReply, ModelRequest
from ..model import OnText
from .base import RequestModel
from .endpoint import STREAM_TIMEOUT_S, TIMEOUT_S, failure, is_it_running, without
from .fallback import first_that_replies
from .given import GivenText
from .openai_reply import ChatReader
from .openai_request import chat_fields
from .pace import Pace
from .prices import PriceTable, with_cost
from .retry import Retry
from .wire import Malformed

_REFUSED: Final = re.compile(r"1\.82\.[78]|1\.107(\..*)?")
_MESSAGE_CHARS: Final = 500
_OURS: Final = frozenset(
    {
        "model",
        "messages",
        "stop",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "response_format",
        "num_retries",
        "timeout",
        "fallbacks",
    }
)
_SECRET_NAME: Final = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
Options = Mapping[str, object]


class _LiteLLM(Protocol):
    """The part of the module that we use."""

    suppress_debug_info: bool

    async def acompletion(self, **options: object) -> object:
        """A response object, an iterator of chunks, or one of many exceptions."""
        ...

    def cost_per_token(self, **options: object) -> tuple[float, float]:
        """US dollars for input and output; an exception for a model that it does not know."""
        ...


@dataclass(frozen=True, slots=True)
class _Target:
    """A model and the options for it. The options are never shown."""

    model: str
    options: Options


class LiteLLMModel(RequestModel):
    """A chat model behind LiteLLM. Safe to share between agents, tasks, threads and loops."""

    def __init__(  # noqa: PLR0913  # options of a public constructor, all by keyword
        self,
        model: str,
        *,
        fallbacks: Sequence[str | Options] = (),
        timeout_s: float = TIMEOUT_S,
        stream_timeout_s: float = STREAM_TIMEOUT_S,
        retry: Retry | None = None,
        requests_per_minute: float | None = None,
        prices: PriceTable | None = None,
        **options: object,
    ) -> None:
        """Nothing is imported or sent yet.

        Args:
            model: LiteLLM's name, such as "gpt-4.1-mini" or "anthropic/claude-sonnet-4-5".
            fallbacks: what to ask, in order, when the model fails after its retries: a name, which is asked with the
                same options, or a mapping with "model" and the options that differ.
            timeout_s: seconds for a reply that is asked for as a whole; of a streamed one, for the longest silence.
            stream_timeout_s: seconds for a streamed reply.
            retry: how often to try again; LiteLLM's own retries are off.
            requests_per_minute: spreads the requests of this object evenly; None: no limit.
            prices: of the models' tokens, for `TokenUsage.cost_usd`; None: LiteLLM's own list of prices.
            options: for `litellm.acompletion`, such as `api_key`, `api_base`, `temperature`, `max_tokens`. Never shown.

        Raises:
            ConfigError: an option is one that this class sets itself, or cannot be.
        """
        if not (timeout_s > 0 and stream_timeout_s > 0):
            raise ConfigError("timeout_s and stream_timeout_s are above 0")
        self._targets = (_target(model, options), *(_fallback(entry, options) for entry in fallbacks))
        self._timeout_s = timeout_s
        self._stream_timeout_s = stream_timeout_s
        self._retry = retry or Retry()
        self._pace = Pace(requests_per_minute)
        self._prices = prices

    @property
    def name(self) -> str:
        return self._targets[0].model

    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The model's next message, or a fallback's; streamed if there is an `on_text`.

        Raises:
            ConfigError: LiteLLM is not installed, or in a version that must not be used.
            ModelError: one of its subclasses says what is wrong and whether trying later helps.
        """
        litellm = await anyio.to_thread.run_sync(load_litellm)  # the import takes seconds
        fields = chat_fields(request) | {"num_retries": 0, "timeout": self._timeout_s}
        limit: dict[str, object] = {} if request.max_tokens is None else {"max_tokens": request.max_tokens}
        if on_text is not None:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        given = GivenText(on_text)

        async def ask(target: _Target) -> ModelReply:
            call = {"model": target.model, **fields, **target.options, **limit}
            reply = await self._retry.run(
                lambda: self._ask(litellm, target, call, given), may_repeat=lambda: not given.began
            )
            return self._with_cost(litellm, target, reply)

        return await first_that_replies([(target.model, target) for target in self._targets], ask, given)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # --- one request --------------------------------------------------------------------------------------------------

    async def _ask(self, litellm: _LiteLLM, target: _Target, call: dict[str, object], given: GivenText) -> ModelReply:
        await self._pace.wait()
        is_stream = "stream" in call
        limit_s = self._stream_timeout_s if is_stream else self._timeout_s
        try:
            with anyio.fail_after(limit_s):
                outcome = await _exchange(litellm, call, given, silence_s=self._timeout_s)
        except TimeoutError:
            what = "no end" if is_stream else "no answer"
            outcome = ModelUnavailable(f"{target.model}: {what} within {limit_s:g} s")
        if isinstance(outcome, ModelReply):
            return outcome
        if isinstance(outcome, ModelError):
            raise outcome
        raise _failure(target, outcome)  # here and not where it was caught: its exceptions hold the request and its key

    def _with_cost(self, litellm: _LiteLLM, target: _Target, reply: ModelReply) -> ModelReply:
        if self._prices is not None:
            return with_cost(reply, self._prices, target.model)
        usage = reply.usage
        if usage is None:
            return reply
        try:
            costs = litellm.cost_per_token(
                model=target.model,
                prompt_tokens=usage.input_tokens,
                completion_tokens=usage.output_tokens,
                cache_read_input_tokens=usage.cached_tokens,
                cache_creation_input_tokens=usage.cache_write_tokens,
            )
        except Exception:  # noqa: BLE001  # it has no price for this model, and says so in many ways
            return reply
        return replace(reply, usage=replace(usage, cost_usd=float(sum(costs))))


def load_litellm() -> _LiteLLM:
    """The module, in a version that may be used.

    Raises:
        ConfigError: it is not installed, or it is one of the releases that attackers published.
    """
    try:
        version = importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(f"LiteLLM is not installed: {install_command('litellm')}") from None
    if _REFUSED.fullmatch(version):
        raise ConfigError(
            f"LiteLLM {version} was published by attackers. Do not use this environment: remove it, and change every "
            "key that it could read."
        )
    # Else the import fetches a price list from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        litellm = cast("_LiteLLM", importlib.import_module("litellm"))
    except ImportError as exc:
        raise ConfigError(f"LiteLLM cannot be imported: {exc}") from exc
    litellm.suppress_debug_info = True  # it prints advertisements to stdout on errors
    return litellm


def _target(model: str, options: Options) -> _Target:
    if taken := _OURS & options.keys():
        raise ConfigError(f"LiteLLMModel sets {', '.join(sorted(taken))} itself")
    return _Target(model, dict(options))


def _fallback(entry: str | Options, options: Options) -> _Target:
    if isinstance(entry, str):
        return _target(entry, options)
    others = dict(entry)
    model = others.pop("model", None)
    if not isinstance(model, str):
        raise ConfigError("a fallback is a name, or a mapping with 'model' and options")
    return _target(model, {**options, **others})


async def _exchange(
    litellm: _LiteLLM, call: dict[str, object], given: GivenText, *, silence_s: float
) -> ModelReply | Exception:
    """The reply, or what went wrong."""
    try:
        response = await litellm.acompletion(**call)
    except Exception as exc:  # noqa: BLE001  # LiteLLM lets each provider's own exceptions through
        return exc
    if not hasattr(response, "__aiter__"):
        try:
            reply = ChatReader().read_object(_plain(response))
        except Malformed as exc:
            return BadReply(f"LiteLLM gave {exc}")
        given(reply.text)
        return reply
    return await _read_chunks(cast("AsyncIterator[object]", response).__aiter__(), given, silence_s=silence_s)


async def _read_chunks(chunks: AsyncIterator[object], given: GivenText, *, silence_s: float) -> ModelReply | Exception:
    reader = ChatReader()
    try:
        while True:
            try:
                with anyio.fail_after(silence_s):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            except Exception as exc:  # noqa: BLE001  # as above
                return ModelUnavailable(f"LiteLLM was silent for {silence_s:g} s") if type(exc) is TimeoutError else exc
            try:
                text = reader.read_chunk(_plain(chunk))
            except Malformed as exc:
                return BadReply(f"LiteLLM gave {exc}")
            given(text)
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            with anyio.move_on_after(1, shield=True):  # also when the task is cancelled: the connection has to go
                await close()
    return reader.finish() or ModelUnavailable("LiteLLM: the stream broke off before the end of the reply")


def _plain(value: object) -> object:
    """LiteLLM's objects as plain data."""
    dump: object = getattr(value, "model_dump", None)
    return dump() if callable(dump) else value


def _failure(target: _Target, exc: Exception) -> ModelError:
    """LiteLLM's exceptions have the HTTP status that the provider gave, or one that LiteLLM thinks fits."""
    found: object = getattr(exc, "status_code", None)
    text = without(f"{target.model}: {type(exc).__name__}: {exc}", list(_secrets(target.options)))
    short = text if len(text) <= _MESSAGE_CHARS else text[:_MESSAGE_CHARS] + "..."
    address = target.options.get("api_base")
    if isinstance(address, str) and (type(exc).__name__ == "APIConnectionError" or "Connection error" in text):
        short += is_it_running(address)
    return failure(found if isinstance(found, int) else None, _retry_after(exc), short)


def _secrets(options: Options) -> Iterator[str]:
    """Values that no text may show: those with such names, and all headers."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            for inner in cast("Mapping[str, object]", value).values():
                if isinstance(inner, str) and len(inner) >= 8:
                    yield inner
        elif isinstance(value, str) and len(value) >= 8 and _SECRET_NAME.search(name):
            yield value


def _retry_after(exc: Exception) -> str | None:
    headers: object = getattr(exc, "litellm_response_headers", None)
    value: object = cast("Mapping[str, object]", headers).get("retry-after") if isinstance(headers, Mapping) else None
    return value if isinstance(value, str) else None
