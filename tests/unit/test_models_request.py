"""What every model takes: messages, tools and formats that make sense, and the sums of what they cost."""

from __future__ import annotations

import anyio
import pytest

from cloche.agents.messages import (
    Image,
    Message,
    ModelReply,
    ResponseFormat,
    TokenUsage,
    ToolCallRequest,
    ToolSchema,
)
from cloche.agents.models.pace import Pace
from cloche.agents.models.prices import Prices, with_cost
from cloche.agents.models.request import make_request
from cloche.runtime.errors import ConfigError

TASK = Message("user", "Hi")
PNG = Image(b"png")
ADD = ToolSchema("add", "Adds.", {"type": "object"})
CALL = ToolCallRequest("a", "add")


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([Message("tool", "x")], "tool_call_id belongs to"),
        ([Message("user", "x", tool_call_id="a")], "tool_call_id belongs to"),
        ([Message("user", "x", tool_calls=(CALL,))], "tool_calls belong to"),
        ([Message("assistant", "x", images=(PNG,))], "images belong to"),
        ([Message("system", "x", images=(PNG,))], "images belong to"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(messages: list[Message], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_request(messages)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"tools": [ADD, ADD]}, "two tools have one name"),
        ({"tools": [ToolSchema("a b", "", {})]}, "a tool is named"),
        ({"tools": [ToolSchema("x" * 65, "", {})]}, "a tool is named"),
        ({"tool_choice": "required"}, "needs tools"),
        ({"response_format": ResponseFormat(name="a b")}, "a response format is named"),
        ({"max_tokens": 0}, "max_tokens is above 0"),
    ],
)
def test_a_request_that_cannot_be_is_refused(asked: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_request([TASK], **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(("data", "mime"), [(b"", "image/png"), (b"x", "image/svg+xml"), (b"x", "text/html")])
def test_an_image_that_no_endpoint_takes_is_refused(data: bytes, mime: str) -> None:
    with pytest.raises(ConfigError, match="an image"):
        Image(data, mime)


def test_an_image_is_not_shown_in_texts() -> None:
    assert repr(Image(b"secret picture")) == "Image(mime='image/png')"


def test_messages_with_calls_can_be_keys() -> None:
    one = Message("assistant", "", tool_calls=(ToolCallRequest("a", "f", {"n": [1]}),), echo={"x": []})
    assert (
        len({one, Message("assistant", "", tool_calls=(ToolCallRequest("a", "f", {"n": [1]}),), echo={"x": []})}) == 1
    )


def test_a_reply_is_the_next_message() -> None:
    reply = ModelReply(text="x", tool_calls=(CALL,), echo={"k": 1})
    assert reply.message == Message("assistant", "x", tool_calls=(CALL,), echo={"k": 1})


# --- sums and costs ---------------------------------------------------------------------------------------------------


def test_usage_adds_up_with_its_cost() -> None:
    one = TokenUsage(input_tokens=1, output_tokens=2, cached_tokens=1, cache_write_tokens=3, cost_usd=0.25)
    two = TokenUsage(input_tokens=10, output_tokens=20, reasoning_tokens=5, cache_write_tokens=1, cost_usd=0.5)
    total = TokenUsage() + one + two
    assert total == TokenUsage(
        input_tokens=11,
        output_tokens=22,
        cached_tokens=1,
        reasoning_tokens=5,
        cache_write_tokens=4,
        cost_usd=0.75,
    )


def test_a_cost_that_is_not_known_makes_the_sum_unknown() -> None:
    known, unknown = TokenUsage(input_tokens=1, cost_usd=0.25), TokenUsage(input_tokens=1)
    assert (known + unknown).cost_usd is None
    assert (unknown + known).cost_usd is None
    assert (known + TokenUsage()).cost_usd == 0.25
    assert (TokenUsage() + TokenUsage()).cost_usd is None


def test_cached_tokens_are_charged_once_and_at_their_own_price() -> None:
    usage = TokenUsage(input_tokens=1000, cached_tokens=600, cache_write_tokens=100, output_tokens=10)
    prices = Prices(input=1, cached=0.1, cache_write=1.25, output=4)
    assert prices.cost_of(usage) == pytest.approx((300 * 1 + 600 * 0.1 + 100 * 1.25 + 10 * 4) / 1e6)
    assert Prices(input=1, output=4).cost_of(usage) == pytest.approx((1000 + 40) / 1e6)


def test_a_table_is_looked_up_by_both_names_of_a_model() -> None:
    table = {"m": Prices(input=1, output=1), "m-2026": Prices(input=2, output=2)}
    reply = ModelReply(text="", usage=TokenUsage(input_tokens=1_000_000), response_model="m-2026")
    costs = [found.usage and found.usage.cost_usd for found in (with_cost(reply, table, name) for name in ("m", "x"))]
    assert costs == [1.0, 2.0]
    assert with_cost(reply, {}, "m") == reply
    assert with_cost(ModelReply(text=""), table, "m").usage is None


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="US dollars per million tokens"):
        Prices(input=1, output=-1)


# --- pace -------------------------------------------------------------------------------------------------------------


def test_requests_are_spread_evenly_and_a_pause_saves_nothing_up() -> None:
    pace = Pace(30)
    assert [pace.take(now) for now in (100.0, 100.0, 100.0, 110.0, 110.0)] == [0.0, 2.0, 4.0, 0.0, 2.0]


def test_the_next_request_waits_for_its_turn() -> None:
    async def main() -> bool:
        pace = Pace(0.1)
        with anyio.fail_after(5):
            await pace.wait()
        with anyio.move_on_after(0.02) as scope:
            await pace.wait()
        return scope.cancelled_caught

    assert anyio.run(main)


def test_without_a_limit_nothing_waits() -> None:
    assert anyio.run(Pace(None).wait) is None


def test_a_pace_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="requests_per_minute"):
        Pace(0)
