"""`LiteLLMModel` over a module that stands in for LiteLLM, so that no test needs the extra."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import anyio
import anyio.lowlevel
import pytest
from tests.support.chat_server import call, call_part, chunk, completion, usage_chunk

from cloche.agents.errors import BadReply, ModelDenied, ModelError, ModelRateLimited, ModelRefused, ModelUnavailable
from cloche.agents.messages import Message, ModelReply, ResponseFormat, TokenUsage, ToolCallRequest, ToolSchema
from cloche.agents.models.litellm import LiteLLMModel
from cloche.agents.models.prices import Prices
from cloche.agents.models.retry import Retry
from cloche.runtime import extras
from cloche.runtime.errors import ConfigError

KEY = "sk-a-very-secret-key"
TASK = Message("user", "Hi")
COUNTED = TokenUsage(input_tokens=20, output_tokens=7, cached_tokens=16, reasoning_tokens=3)
BOUND_S = 30.0


class FakeLiteLLM(ModuleType):
    """Gives the n-th outcome to the n-th call."""

    def __init__(self, *outcomes: object) -> None:
        super().__init__("litellm")
        self.suppress_debug_info = False
        self.outcomes = list(outcomes)
        self.calls: list[dict[str, object]] = []

    def cost_per_token(self, **options: object) -> tuple[float, float]:
        if options["model"] != "priced":
            raise LookupError("not mapped")
        assert (options["prompt_tokens"], options["cache_read_input_tokens"]) == (20, 16)
        return 0.25, 0.5

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


class Plain:
    """As LiteLLM's objects: pydantic models that can be dumped."""

    def __init__(self, data: dict[str, object]) -> None:
        self.data = data

    def model_dump(self) -> dict[str, object]:
        return self.data


class Chunks:
    """As LiteLLM's stream. An exception among the chunks is raised; `closed` says that it was closed."""

    def __init__(self, *chunks: dict[str, object] | Exception) -> None:
        self.left = list(chunks)
        self.closed = False

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> Plain:
        await anyio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        return Plain(found)

    async def aclose(self) -> None:
        self.closed = True


def response(text: object, **options: object) -> Plain:
    return Plain(completion(text, **options))  # type: ignore[arg-type]  # some tests give what cannot be


def install(monkeypatch: pytest.MonkeyPatch, module: ModuleType, version: str = "1.106.2") -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setitem(sys.modules, "litellm", module)

    def version_of(name: str) -> str:
        return version

    monkeypatch.setattr(importlib.metadata, "version", version_of)


def ask(model: LiteLLMModel, **options: object) -> ModelReply:
    async def main() -> ModelReply:
        with anyio.fail_after(BOUND_S):
            return await model.complete([TASK], **options)  # type: ignore[arg-type]

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
    assert ask(LiteLLMModel("m")) == ModelReply(text="Hi.", usage=COUNTED, finish_reason="length")


def test_no_content_is_an_empty_text_and_other_content_a_bad_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLiteLLM(response(None)))
    assert ask(LiteLLMModel("m")).text == ""
    assert type(failure(monkeypatch, response(5))[0]) is BadReply
    assert type(failure(monkeypatch, Plain({"choices": []}))[0]) is BadReply
    assert type(failure(monkeypatch, None)[0]) is BadReply


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
    assert (exc.__cause__, exc.__context__) == (None, None)  # the provider's exception holds the request and its key


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


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:8080/a-secret-path", "; is the server running at 127.0.0.1:8080?"),
        ("http://user:hush@[::1]/v1", "; is the server running at [::1]:80?"),
        ("http://[::1", "; is the address right?"),
    ],
)
def test_a_server_that_cannot_be_reached_is_asked_for(address: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLiteLLM(ProviderError("InternalServerError: Connection error.", 500)))
    with pytest.raises(ModelUnavailable) as caught:
        ask(LiteLLMModel("m", api_base=address, retry=Retry(attempts=1)))
    assert str(caught.value) == f"m: ProviderError: InternalServerError: Connection error.{told}"


@pytest.mark.parametrize(
    ("is_checkout", "told"),
    [(False, "pip install 'cloche[litellm]'"), (True, "in the checkout, pip install -e '.[litellm]'")],
)
def test_without_the_extra_the_error_says_what_to_install(
    is_checkout: bool, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    if is_checkout:
        (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(extras, "_ROOT", tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ConfigError) as caught:
        ask(LiteLLMModel("m"))
    assert str(caught.value) == f"LiteLLM is not installed: {told}"


def test_this_checkout_is_one() -> None:
    assert extras.install_command("litellm") == "in the checkout, pip install -e '.[litellm]'"


def test_options_that_are_set_here_are_refused() -> None:
    with pytest.raises(ConfigError, match="LiteLLMModel sets messages, stream itself"):
        LiteLLMModel("m", messages=[], stream=True)


def test_no_option_is_shown() -> None:
    assert repr(LiteLLMModel("m", api_key=KEY)) == "<LiteLLMModel 'm'>"


def test_values_of_headers_are_shown_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLiteLLM(ProviderError("no: hush-hush-hush", 400)))
    with pytest.raises(ModelRefused, match=r"no: \*\*\*"):
        ask(LiteLLMModel("m", extra_headers={"x-other": "hush-hush-hush"}))


# --- tools, streams, cost, fallbacks ----------------------------------------------------------------------------------


def test_tools_format_and_limit_are_sent_as_chat_completions_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    module = FakeLiteLLM(response(None, tool_calls=[call("f", '{"n": 1}')], finish_reason="tool_calls"))
    install(monkeypatch, module)
    reply = ask(
        LiteLLMModel("m", max_tokens=100),
        tools=[ToolSchema("f", "F.", {"type": "object"})],
        tool_choice="required",
        response_format=ResponseFormat(),
        max_tokens=5,
    )
    assert reply.tool_calls == (ToolCallRequest("call_1", "f", {"n": 1}),)
    sent = module.calls[0]
    function = {"name": "f", "description": "F.", "parameters": {"type": "object"}}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert (sent["tool_choice"], sent["response_format"], sent["max_tokens"]) == (
        "required",
        {"type": "json_object"},
        5,
    )


def test_a_stream_gives_text_calls_and_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = chunk(tool_calls=[call_part(0, "{}", name="f", call_id="a")])
    chunks = Chunks(chunk("Hej "), chunk("då"), parts, chunk(finish_reason="tool_calls"), usage_chunk())
    module = FakeLiteLLM(chunks)
    install(monkeypatch, module)
    pieces: list[str] = []
    reply = ask(LiteLLMModel("m"), on_text=pieces.append)
    calls = (ToolCallRequest("a", "f", {}),)
    assert reply == ModelReply(text="Hej då", usage=COUNTED, finish_reason="tool_calls", tool_calls=calls)
    assert (pieces, chunks.closed) == (["Hej ", "då"], True)
    assert (module.calls[0]["stream"], module.calls[0]["stream_options"]) == (True, {"include_usage": True})


def test_a_stream_that_breaks_off_is_asked_for_again_only_before_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (chunk("x"), chunk(finish_reason="stop"))
    module = FakeLiteLLM(Chunks(chunk("")), Chunks(ProviderError("down", 500)), Chunks(*whole))
    install(monkeypatch, module)
    assert ask(LiteLLMModel("m", retry=Retry(backoff_s=0.0)), on_text=str).text == "x"
    module = FakeLiteLLM(Chunks(chunk("half"), ProviderError("down", 500)), Chunks(*whole))
    install(monkeypatch, module)
    with pytest.raises(ModelUnavailable):
        ask(LiteLLMModel("m", retry=Retry(backoff_s=0.0), fallbacks=["other"]), on_text=str)
    assert len(module.calls) == 1


def test_the_cost_is_by_the_given_prices_or_by_those_of_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLiteLLM(response("x")))
    found = [
        ask(LiteLLMModel(name, prices=prices)).usage
        for name, prices in (("priced", None), ("free", None), ("priced", Prices(input=1, output=2)))
    ]
    assert [usage and usage.cost_usd for usage in found] == [0.75, None, (20 * 1 + 7 * 2) / 1e6]


def test_fallbacks_are_asked_in_order_with_options_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = FakeLiteLLM(ProviderError("no", 404), ProviderError("no", 401), response("third"))
    install(monkeypatch, module)
    model = LiteLLMModel("a", api_key=KEY, temperature=0, fallbacks=["b", {"model": "c", "api_key": "another"}])
    assert ask(model).text == "third"
    sent = [(made["model"], made["api_key"], made["temperature"]) for made in module.calls]
    assert sent == [("a", KEY, 0), ("b", KEY, 0), ("c", "another", 0)]


def test_if_all_fail_the_last_error_names_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLiteLLM(ProviderError("gone", 404), ProviderError("denied", 401)))
    with pytest.raises(ModelDenied) as caught:
        ask(LiteLLMModel("a", fallbacks=["b"]))
    assert caught.value.__notes__ == ["before it, a failed: ModelRefused: a: ProviderError: gone"]


def test_a_fallback_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="a mapping with 'model'"):
        LiteLLMModel("a", fallbacks=[{"api_key": "x"}])
