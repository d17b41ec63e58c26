"""`LiteLLMModel` over a module that stands in for LiteLLM, so that no test needs the extra."""

from __future__ import annotations

import importlib.metadata
import sys
from types import ModuleType, SimpleNamespace

import anyio
import pytest

from cloche.agents.errors import BadReply, ModelDenied, ModelError, ModelRateLimited, ModelRefused, ModelUnavailable
from cloche.agents.messages import Message, ModelReply, TokenUsage
from cloche.agents.models.litellm import LiteLLMModel
from cloche.agents.models.retry import Retry
from cloche.runtime.errors import ConfigError

KEY = "sk-a-very-secret-key"
TASK = Message("user", "Hi")


class FakeLiteLLM(ModuleType):
    """Gives the n-th outcome to the n-th call."""

    def __init__(self, *outcomes: object) -> None:
        super().__init__("litellm")
        self.suppress_debug_info = False
        self.outcomes = list(outcomes)
        self.calls: list[dict[str, object]] = []

    async def acompletion(self, **options: object) -> object:
        self.calls.append(options)
        outcome = self.outcomes[min(len(self.calls), len(self.outcomes)) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class ProviderError(Exception):
    """As LiteLLM's: a status, and the headers that came with it."""

    def __init__(self, message: str, status: int | None, **headers: str) -> None:
        super().__init__(message)
        self.status_code = status
        self.litellm_response_headers = headers


def response(text: object, *, finish_reason: str = "stop") -> SimpleNamespace:
    message = SimpleNamespace(content=text, role="assistant")
    usage = SimpleNamespace(
        prompt_tokens=20,
        completion_tokens=7,
        prompt_tokens_details=SimpleNamespace(cached_tokens=16),
        completion_tokens_details=None,
    )
    return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason=finish_reason)], usage=usage)


def install(monkeypatch: pytest.MonkeyPatch, module: ModuleType, version: str = "1.106.2") -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setitem(sys.modules, "litellm", module)

    def version_of(name: str) -> str:
        return version

    monkeypatch.setattr(importlib.metadata, "version", version_of)


def ask(model: LiteLLMModel, stop: tuple[str, ...] = ()) -> ModelReply:
    async def main() -> ModelReply:
        return await model.complete([TASK], stop=stop)

    return anyio.run(main)


def failure(monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> tuple[ModelError, FakeLiteLLM]:
    module = FakeLiteLLM(*outcomes)
    install(monkeypatch, module)
    with pytest.raises(ModelError) as caught:
        ask(LiteLLMModel("m", retry=Retry(attempts=3, backoff_s=0.0), api_key=KEY))
    return caught.value, module


def test_a_request_carries_messages_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    module = FakeLiteLLM(response("Hi."))
    install(monkeypatch, module)
    ask(LiteLLMModel("provider/m", timeout_s=9, temperature=0, api_base="http://x"), stop=("END",))
    assert module.calls == [
        {
            "model": "provider/m",
            "messages": [{"role": "user", "content": "Hi"}],
            "stop": ["END"],
            "num_retries": 0,
            "timeout": 9,
            "temperature": 0,
            "api_base": "http://x",
        }
    ]
    assert module.suppress_debug_info


def test_a_reply_gives_text_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLiteLLM(response("Hi.", finish_reason="length")))
    usage = TokenUsage(input_tokens=20, output_tokens=7, cached_tokens=16)
    assert ask(LiteLLMModel("m")) == ModelReply(text="Hi.", usage=usage, finish_reason="length")


def test_no_content_is_an_empty_text_and_other_content_a_bad_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLiteLLM(response(None)))
    assert ask(LiteLLMModel("m")).text == ""
    assert type(failure(monkeypatch, response(["x"]))[0]) is BadReply
    assert type(failure(monkeypatch, SimpleNamespace(choices=[]))[0]) is BadReply


@pytest.mark.parametrize(
    ("status", "kind", "calls"),
    [
        (400, ModelRefused, 1),
        (401, ModelDenied, 1),
        (404, ModelRefused, 1),
        (408, ModelUnavailable, 3),
        (429, ModelRateLimited, 3),
        (503, ModelUnavailable, 3),
        (None, ModelUnavailable, 3),
    ],
)
def test_an_error_is_sorted_by_its_status(
    monkeypatch: pytest.MonkeyPatch, status: int | None, kind: type[ModelError], calls: int
) -> None:
    exc, module = failure(monkeypatch, ProviderError(f"it failed for {KEY}", status))
    assert (type(exc), exc.status, len(module.calls)) == (kind, status, calls)
    assert str(exc) == "m: ProviderError: it failed for ***"
    assert exc.__cause__ is None  # the provider's exception holds the request and its key


def test_retry_after_is_read_from_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    exc, module = failure(monkeypatch, ProviderError("slow", 429, **{"retry-after": "3600"}))
    assert isinstance(exc, ModelRateLimited)
    assert (exc.retry_after_s, len(module.calls)) == (3600.0, 1)


def test_an_error_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLiteLLM(ProviderError("busy", 503), response("at last")))
    assert ask(LiteLLMModel("m", retry=Retry(backoff_s=0.0))).text == "at last"


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8", "1.107.0", "1.107.3"])
def test_a_release_of_the_attackers_is_refused_before_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    module = FakeLiteLLM(response("owned"))
    install(monkeypatch, module, version)
    with pytest.raises(ConfigError, match=f"LiteLLM {version} was published by attackers"):
        ask(LiteLLMModel("m"))
    assert (module.calls, module.suppress_debug_info) == ([], False)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ConfigError, match=r"pip install 'cloche\[litellm\]'"):
        ask(LiteLLMModel("m"))


def test_options_that_are_set_here_are_refused() -> None:
    with pytest.raises(ConfigError, match="LiteLLMModel sets messages, stream itself"):
        LiteLLMModel("m", messages=[], stream=True)


def test_no_option_is_shown() -> None:
    assert repr(LiteLLMModel("m", api_key=KEY)) == "<LiteLLMModel 'm'>"
