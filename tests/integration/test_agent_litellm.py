"""`LiteLLMModel` over the real LiteLLM, where the extra is installed, against a local endpoint."""

from __future__ import annotations

import importlib.metadata

import anyio
import pytest
from tests.support.chat_server import Answer, chat_server, error, reply

from cloche import LiteLLMModel, Message, ModelError, ModelReply, TokenUsage
from cloche.agents.errors import ModelDenied, ModelRateLimited, ModelRefused, ModelUnavailable
from cloche.agents.models.retry import Retry

KEY = "sk-a-very-secret-key"


def missing() -> bool:
    try:
        importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


pytestmark = [
    pytest.mark.skipif(missing(), reason="the extra `litellm` is not installed"),
    pytest.mark.filterwarnings("ignore"),  # it warns about much that is not ours
]


def ask(*answers: Answer) -> tuple[ModelReply | ModelError, int]:
    """The outcome, and how many requests it took."""

    async def main(url: str) -> ModelReply | ModelError:
        model = LiteLLMModel("openai/test", api_base=url, api_key=KEY, retry=Retry(attempts=2, backoff_s=0.0))
        try:
            return await model.complete([Message("user", "Hi")])
        except ModelError as exc:
            return exc

    with chat_server(*answers) as server:
        return anyio.run(main, server.url), len(server.requests)


def test_a_reply_gives_text_and_tokens() -> None:
    usage = TokenUsage(input_tokens=20, output_tokens=7, cached_tokens=16, reasoning_tokens=3)
    assert ask(reply("Hej")) == (ModelReply(text="Hej", usage=usage), 1)


@pytest.mark.parametrize(
    ("answer", "kind", "requests"),
    [
        (error(400, f"bad {KEY}"), ModelRefused, 1),
        (error(401, f"wrong {KEY}"), ModelDenied, 1),
        (error(429, f"slow {KEY}", {"Retry-After": "999"}), ModelRateLimited, 1),
        (error(500, f"down {KEY}"), ModelUnavailable, 2),
    ],
)
def test_an_error_is_sorted_and_shows_no_key(answer: bytes, kind: type[ModelError], requests: int) -> None:
    outcome, count = ask(answer)
    assert (type(outcome), count) == (kind, requests)
    assert KEY not in str(outcome)


def test_a_rate_limit_says_how_long() -> None:
    outcome, _ = ask(error(429, "slow", {"Retry-After": "999"}))
    assert isinstance(outcome, ModelRateLimited)
    assert outcome.retry_after_s == 999.0
