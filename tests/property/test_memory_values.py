"""Memory files: what was saved comes back equal, type by type, and no text of any kind does more than raise."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import suppress
from decimal import Decimal
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.agents.errors import MemoryFileError
from cloche.agents.memory import run_from_json, run_to_json
from cloche.agents.memory_values import dump_value, load_value
from cloche.agents.messages import Image, Message, ModelReply, TokenUsage, ToolCallRequest
from cloche.agents.result import ActionStep, FinalAnswerStep, PlanningStep, RunResult, StepError, TaskStep, Timing
from cloche.runtime.cell import Cell, LimitHit
from cloche.runtime.protocol import GuestError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["[1]", '{"$value": "AA=="}', "null", "true", "1e5", "$value", "NaN", ""]
)
KEYS = st.none() | st.booleans() | st.integers() | TEXT | st.binary(max_size=8) | st.tuples(st.integers(), TEXT)
LEAVES = (
    KEYS
    | st.floats(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False, min_value=-(10**20), max_value=10**20)
    | st.frozensets(KEYS, max_size=3)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(KEYS, max_size=3)
    ),
    max_leaves=12,
)


def shape(value: object) -> object:
    """The value with the type of each part, because `1 == True == 1.0`."""
    if isinstance(value, dict):
        return [(shape(key), shape(item)) for key, item in cast("dict[object, object]", value).items()]
    if isinstance(value, list | tuple):
        return ("list" if isinstance(value, list) else "tuple", [shape(item) for item in cast("list[object]", value)])
    if isinstance(value, set | frozenset):
        return (
            "set" if isinstance(value, set) else "frozenset",
            sorted(map(repr, map(shape, cast("set[object]", value)))),
        )
    return (type(value), repr(value))


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    text = json.dumps(dump_value(value, "value"), allow_nan=False)
    assert shape(load_value(json.loads(text), "value")) == shape(value)


@given(output=VALUES, arguments=st.dictionaries(TEXT, VALUES, max_size=3), texts=st.tuples(TEXT, TEXT, TEXT))
def test_a_run_comes_back_equal_with_all_its_steps(
    output: object, arguments: dict[str, object], texts: tuple[str, str, str]
) -> None:
    task, said, printed = texts
    usage = TokenUsage(input_tokens=3, cost_usd=0.5)
    reply = ModelReply(
        text=said, usage=usage, tool_calls=(ToolCallRequest("1", said, arguments),), echo=arguments, response_id=said
    )
    cell = Cell(
        value=output,
        stdout=printed,
        error=GuestError(type="KeyError", message=said, traceback=printed, line=None),
        limits=(LimitHit("memory_mb", float("inf"), 4),),
    )
    steps = (ActionStep(number=1, reply=reply, code=said, cell=cell, error=StepError(type="E", message=task)),)
    run = RunResult(
        output=output,
        stop_reason="final",
        steps=steps,
        trace=(
            TaskStep(task=task, inputs={said: printed}, images=(Image(b"\x00\xff"),)),
            PlanningStep(number=1, plan=said, reply=reply),
            *steps,
            FinalAnswerStep(output=output),
        ),
        usage=usage,
        timing=Timing(total_s=1.5, model_s=1, sandbox_s=0),
        messages=(Message("system", task), reply.message, reply.message, Message("user", said, images=(Image(b"x"),))),
        run_id="r",
    )
    text = run_to_json(run)
    again = run_from_json(text)
    assert again == run
    assert again.steps[0].reply.response_id == said
    assert run_from_json(run_to_json(again)) == run  # not the same text: a set has no order


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_other_text_is_refused_with_the_one_error(data: str | bytes) -> None:
    with pytest.raises(MemoryFileError):
        run_from_json(data)


@given(st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else_happens(data: st.DataObject) -> None:
    run = RunResult(
        output={"a": (1, Decimal("2.5"))},
        stop_reason="final",
        steps=(),
        usage=TokenUsage(),
        timing=Timing(total_s=0.0, model_s=0.0, sandbox_s=0.0),
        messages=(Message("user", "hi"),),
    )
    text = run_to_json(run)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    damaged = text[:start] + data.draw(st.text('"[]{}:,\\$0e-x', max_size=5)) + text[end:]
    with suppress(MemoryFileError):
        assert run_to_json(run_from_json(damaged))
