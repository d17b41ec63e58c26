"""`LiteLLMModel`: any provider that LiteLLM knows. Needs the extra `cloche[litellm]`, which is imported on first use.

LiteLLM's releases were taken over by attackers more than once. The bad ones are refused here by version, before
anything of them is imported; requirements should pin a hash all the same.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, cast

import anyio
import anyio.to_thread

from ...runtime.errors import ConfigError
from ..errors import BadReply, ModelDenied, ModelError, ModelRateLimited, ModelRefused, ModelUnavailable
from ..messages import FinishReason, Message, ModelReply, TokenUsage
from ..model import OnText
from .retry import Retry, read_retry_after

_REFUSED: Final = re.compile(r"1\.82\.[78]|1\.107(\..*)?")
_MESSAGE_CHARS: Final = 500
_OURS: Final = frozenset({"model", "messages", "stop", "stream", "num_retries", "timeout"})


class _LiteLLM(Protocol):
    """The part of the module that we use."""

    suppress_debug_info: bool

    async def acompletion(self, **options: object) -> object:
        """A response object, or one of many exceptions."""
        ...


class LiteLLMModel:
    """A chat model behind LiteLLM. Safe to share between agents, tasks, threads and loops."""

    def __init__(self, model: str, *, timeout_s: float = 120.0, retry: Retry | None = None, **options: object) -> None:
        """Nothing is imported or sent yet.

        Args:
            model: LiteLLM's name, such as "gpt-4.1-mini" or "anthropic/claude-sonnet-4-5".
            timeout_s: seconds for one request.
            retry: how often to try again; LiteLLM's own retries are off.
            options: for `litellm.acompletion`, such as `api_key`, `api_base`, `temperature`, `max_tokens`. Never shown.

        Raises:
            ConfigError: an option is one that this class sets itself.
        """
        if taken := _OURS & options.keys():
            raise ConfigError(f"LiteLLMModel sets {', '.join(sorted(taken))} itself")
        if not timeout_s > 0:
            raise ConfigError("timeout_s is above 0")
        self._model = model
        self._timeout_s = timeout_s
        self._retry = retry or Retry()
        self._options = options

    @property
    def name(self) -> str:
        return self._model

    async def complete(
        self, messages: Sequence[Message], *, stop: Sequence[str] = (), on_text: OnText | None = None
    ) -> ModelReply:
        """The model's next message, asked for as a whole (`on_text` is not used).

        Raises:
            ConfigError: LiteLLM is not installed, or in a version that must not be used.
            ModelError: one of its subclasses says what is wrong and whether trying later helps.
        """
        litellm = await anyio.to_thread.run_sync(load_litellm)  # the import takes seconds
        request: dict[str, object] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            **({"stop": list(stop)} if stop else {}),
            "num_retries": 0,
            "timeout": self._timeout_s,
            **self._options,
        }
        return await self._retry.run(lambda: self._ask(litellm, request))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._model!r}>"

    async def _ask(self, litellm: _LiteLLM, request: dict[str, object]) -> ModelReply:
        try:
            with anyio.fail_after(self._timeout_s):
                response = await litellm.acompletion(**request)
        except TimeoutError as exc:
            raise ModelUnavailable(f"{self._model}: no answer within {self._timeout_s:g} s") from exc
        except Exception as exc:  # noqa: BLE001  # LiteLLM lets each provider's own exceptions through
            raise self._failure(exc) from None  # its exceptions carry the request with its key
        return _read(response)

    def _failure(self, exc: Exception) -> ModelError:
        """LiteLLM's exceptions have the HTTP status that the provider gave, or one that LiteLLM thinks fits."""
        found = getattr(exc, "status_code", None)
        status = found if isinstance(found, int) else None
        message = self._safe(f"{self._model}: {type(exc).__name__}: {exc}")
        if status == 429:
            return ModelRateLimited(message, retry_after_s=_retry_after(exc))
        if status in (401, 403):
            return ModelDenied(message, status=status)
        if status is not None and 400 <= status < 500 and status not in (408, 409):
            return ModelRefused(message, status=status)
        return ModelUnavailable(message, status=status)

    def _safe(self, text: str) -> str:
        for name, value in self._options.items():
            if isinstance(value, str) and len(value) >= 8 and ("key" in name or "token" in name or "secret" in name):
                text = text.replace(value, "***")
        return text if len(text) <= _MESSAGE_CHARS else text[:_MESSAGE_CHARS] + "..."


def load_litellm() -> _LiteLLM:
    """The module, in a version that may be used.

    Raises:
        ConfigError: it is not installed, or it is one of the releases that attackers published.
    """
    try:
        version = importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError("LiteLLM is not installed: pip install 'cloche[litellm]'") from None
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


def _retry_after(exc: Exception) -> float | None:
    headers: object = getattr(exc, "litellm_response_headers", None)
    value: object = cast("Mapping[str, object]", headers).get("retry-after") if isinstance(headers, Mapping) else None
    return read_retry_after(value if isinstance(value, str) else None)


def _read(response: object) -> ModelReply:
    """The parts that we need, by name: LiteLLM's classes change with its releases."""
    choices: object = getattr(response, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise BadReply("LiteLLM gave a response without choices")
    choice = cast("list[object]", choices)[0]
    content: object = getattr(getattr(choice, "message", None), "content", None)
    if content is not None and not isinstance(content, str):
        raise BadReply(f"LiteLLM gave content of type {type(content).__name__}")
    return ModelReply(
        text=content or "",
        usage=_usage(getattr(response, "usage", None)),
        finish_reason=_finish(getattr(choice, "finish_reason", None)),
    )


def _finish(reason: object) -> FinishReason:
    return "stop" if reason in ("stop", None) else "length" if reason == "length" else "other"


def _usage(usage: object) -> TokenUsage | None:
    if usage is None:
        return None
    return TokenUsage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(getattr(usage, "prompt_tokens_details", None), "cached_tokens"),
        reasoning_tokens=_count(getattr(usage, "completion_tokens_details", None), "reasoning_tokens"),
    )


def _count(source: object, name: str) -> int:
    value: object = getattr(source, name, None)
    return value if type(value) is int and value >= 0 else 0
