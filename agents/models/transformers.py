"""`TransformersModel`: weights on this machine, run by transformers. Needs the extra `cloche[transformers]`.

For trying things out: a server such as vLLM or llama.cpp with `OpenAIModel` is faster, serves many runs at once and can
call tools. The rule: nothing that is loaded runs code. Weights are safetensors, and code from a hub is never trusted.
"""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import anyio.from_thread
import anyio.to_thread

from ...runtime.errors import ConfigError
from ...runtime.extras import install_command
from ..errors import ModelRefused, ModelUnsupported
from ..messages import (
    FinishReason,
    ModelReply,
    ModelRequest,
    TokenUsage,
)
from ..model import OnText
from .base import RequestModel
from .prices import PriceTable, with_cost

MAX_TOKENS: Final = 1024
_GATE_WAIT_S: Final = 0.1
_INSTEAD: Final = "serve the weights with vLLM or llama.cpp and use OpenAIModel"


class TransformersModel(RequestModel):
    """A causal language model in this process. One generation at a time; others wait."""

    def __init__(
        self,
        model: str | object,
        *,
        tokenizer: object = None,
        max_tokens: int = MAX_TOKENS,
        temperature: float = 0.0,
        prices: PriceTable | None = None,
        load: Mapping[str, object] | None = None,
    ) -> None:
        """Nothing is imported or loaded yet.

        Args:
            model: name on the hub or folder; or a model object, which then needs its `tokenizer`.
            tokenizer: with a chat template; None: the one that belongs to the name.
            max_tokens: of one reply.
            temperature: 0: always the likeliest token.
            prices: what a token of your machine costs you; None: unknown.
            load: options for `from_pretrained`, such as `{"device_map": "auto", "dtype": "bfloat16"}`.

        Raises:
            ConfigError: an option cannot be.
        """
        if not isinstance(model, str) and tokenizer is None:
            raise ConfigError("a model object needs its tokenizer")
        if max_tokens < 1 or not 0 <= temperature < math.inf:
            raise ConfigError("max_tokens is above 0, temperature a number from 0")
        options = dict(load or {})
        if taken := {"trust_remote_code", "use_safetensors"} & options.keys():
            raise ConfigError(f"TransformersModel sets {', '.join(sorted(taken))} itself: nothing loaded may run code")
        self._source = model
        self._tokenizer: Any = tokenizer
        self._model: Any = None if isinstance(model, str) else model
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._prices = prices
        self._load_options = options
        self._gate = threading.Lock()
        """Held while the model is loaded or used."""

    @property
    def name(self) -> str:
        return self._source if isinstance(self._source, str) else type(self._source).__name__

    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The model's next message, token by token to `on_text`. Cancelling ends it after the token at hand.

        Raises:
            ConfigError: transformers is not installed, or the model cannot be loaded.
            ModelUnsupported: tools, a response format or images were asked for.
            ModelRefused: the tokenizer's template refuses the conversation.
        """
        _check_supported(request)
        cancelled = threading.Event()

        def give(text: str) -> None:
            if on_text is not None and not cancelled.is_set():
                on_text(text)

        def emit(text: str) -> None:
            if on_text is not None:
                anyio.from_thread.run_sync(give, text)

        work = _Work(request, request.max_tokens or self._max_tokens, cancelled, emit)
        try:
            reply = await anyio.to_thread.run_sync(self._generate, work, abandon_on_cancel=True)
        finally:
            cancelled.set()
        return with_cost(reply, self._prices, self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _generate(self, work: _Work) -> ModelReply:
        while not self._gate.acquire(timeout=_GATE_WAIT_S):
            if work.cancelled.is_set():
                return ModelReply(text="")  # nobody reads it
        try:
            torch, transformers = _import("torch"), _import("transformers")
            self._load(transformers)
            inputs = self._encode(work.request)
            prompt_tokens = int(inputs["input_ids"].shape[-1])
            watch = _Watch(work, self._decode, prompt_tokens, torch)
            sampling = (
                {"do_sample": True, "temperature": self._temperature} if self._temperature else {"do_sample": False}
            )
            with torch.inference_mode():
                found = self._model.generate(
                    **inputs,
                    max_new_tokens=work.max_tokens,
                    stopping_criteria=transformers.StoppingCriteriaList([watch]),
                    **sampling,
                )
        finally:
            self._gate.release()
        return self._reply(work, watch, found[0][prompt_tokens:].tolist(), prompt_tokens)

    def _load(self, transformers: Any) -> None:
        safe = {"trust_remote_code": False}
        try:
            if self._tokenizer is None:
                self._tokenizer = transformers.AutoTokenizer.from_pretrained(self._source, **safe)
            if self._model is None:
                options = {**self._load_options, **safe, "use_safetensors": True}
                self._model = transformers.AutoModelForCausalLM.from_pretrained(self._source, **options)
        except (OSError, ValueError, ImportError) as exc:
            raise ConfigError(f"{self.name} cannot be loaded: {exc}") from exc

    def _encode(self, request: ModelRequest) -> Mapping[str, Any]:
        talk = [{"role": message.role, "content": message.content} for message in request.messages]
        if getattr(self._tokenizer, "chat_template", None) is None:
            raise ConfigError(f"the tokenizer of {self.name} has no chat template: use a model made for chats")
        try:
            text = self._tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        except Exception as exc:  # a template is a program of the model's maker
            raise ModelRefused(f"the chat template of {self.name} refuses this conversation: {exc!s:.300}") from exc
        encoded = self._tokenizer(text, return_tensors="pt", add_special_tokens=False)
        return {name: encoded[name].to(self._model.device) for name in ("input_ids", "attention_mask")}

    def _decode(self, tokens: Sequence[int]) -> str:
        return cast("str", self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _reply(self, work: _Work, watch: _Watch, tokens: Sequence[int], prompt_tokens: int) -> ModelReply:
        text, stopped = _cut(self._decode(tokens), work.request.stop)
        watch.give_rest(text)
        is_full = len(tokens) >= work.max_tokens and not stopped and tokens[-1] not in self._end_tokens()
        finish: FinishReason = "length" if is_full else "stop"
        usage = TokenUsage(input_tokens=prompt_tokens, output_tokens=len(tokens))
        return ModelReply(text=text, usage=usage, finish_reason=finish)

    def _end_tokens(self) -> set[int]:
        found: int | list[int] | None = self._model.generation_config.eos_token_id
        return set(found) if isinstance(found, list) else set() if found is None else {found}


@dataclass(frozen=True, slots=True)
class _Work:
    """One generation."""

    request: ModelRequest
    max_tokens: int
    cancelled: threading.Event
    emit: Callable[[str], None] = field(repr=False)


class _Watch:
    """Looks at each new token: gives out its text, and says when to stop."""

    def __init__(self, work: _Work, decode: Callable[[Sequence[int]], str], prompt_tokens: int, torch: Any) -> None:
        self._work = work
        self._decode = decode
        self._prompt_tokens = prompt_tokens
        self._torch = torch
        self._given = ""

    def __call__(self, input_ids: Any, scores: object, **options: object) -> object:
        text, stopped = _cut(self._decode(input_ids[0][self._prompt_tokens :].tolist()), self._work.request.stop)
        if not self._work.cancelled.is_set():
            self.give_rest(text if stopped else _certain(text, self._work.request.stop))
        is_over = stopped or self._work.cancelled.is_set()
        return self._torch.full((input_ids.shape[0],), is_over, device=input_ids.device, dtype=self._torch.bool)

    def give_rest(self, text: str) -> None:
        """Give out what is new. A tokenizer may change its mind about the end; then the rest waits."""
        if text.startswith(self._given) and len(text) > len(self._given):
            self._work.emit(text[len(self._given) :])
            self._given = text


def _check_supported(request: ModelRequest) -> None:
    if request.tools or any(message.tool_calls or message.role == "tool" for message in request.messages):
        raise ModelUnsupported(f"TransformersModel cannot call tools: use CodeAgent, which needs none, or {_INSTEAD}")
    if request.response_format is not None:
        raise ModelUnsupported(f"TransformersModel cannot hold a reply to a format: {_INSTEAD}")
    if any(message.images for message in request.messages):
        raise ModelUnsupported(f"TransformersModel cannot see images: {_INSTEAD}")


def _cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop sequence, and whether there is one."""
    places = [at for sequence in stop if (at := text.find(sequence)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _certain(text: str, stop: Sequence[str]) -> str:
    """The text without an end that may be the start of a stop sequence, or half a character."""
    text = text.rstrip("\ufffd")
    held = max((_overlap(text, sequence) for sequence in stop), default=0)
    return text[: len(text) - held]


def _overlap(text: str, sequence: str) -> int:
    """How many characters at the end of the text begin the sequence."""
    return next((n for n in range(min(len(text), len(sequence)), 0, -1) if text.endswith(sequence[:n])), 0)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise ConfigError(f"{name} cannot be imported ({exc}): {install_command('transformers')}") from exc
