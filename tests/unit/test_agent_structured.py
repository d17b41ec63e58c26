"""Structured replies: JSON with thought and code, and nothing else is ever run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.support.agents import code_agent, fake_runtime

from cloche.agents.code_agent import CodeAgent
from cloche.agents.errors import ParsingError
from cloche.agents.messages import ModelReply, ResponseFormat
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.parsing import ParsedReply
from cloche.agents.structured import parse_structured
from cloche.runtime.runtime import Runtime


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with fake_runtime() as made:
        yield made


def reply(code: str, thought: str = "Because.") -> str:
    return json.dumps({"thought": thought, "code": code})


@pytest.mark.parametrize(
    "text",
    [
        reply("x = 1"),
        reply("\nx = 1\n"),
        f"```json\n{reply('x = 1')}\n```",
        f"```\n{reply('x = 1')}\n```",
        f"<think>\nhm ```python\nwipe()\n```</think>\n{reply('x = 1')}",
        f"  {reply('x = 1')}\n",
    ],
)
def test_the_field_code_is_the_code(text: str) -> None:
    assert parse_structured(text) == ParsedReply("Because.", "x = 1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 1",
        "```python\nx = 1\n```",
        '"x = 1"',
        "[]",
        "{}",
        '{"thought": "x = 1"}',
        '{"code": ""}',
        '{"code": ["x = 1"]}',
        '{"code": null}',
        '{"code": "x = 1"',
        f"Here: {reply('x = 1')}",
        "[" * 100_000,
    ],
)
def test_anything_else_is_never_run(text: str) -> None:
    with pytest.raises(ParsingError, match=r"Nothing was run\."):
        parse_structured(text)


def test_a_reply_that_was_cut_off_is_not_run() -> None:
    with pytest.raises(ParsingError, match="cut off"):
        parse_structured(reply("x = 1"), cut=True)


def test_the_model_is_asked_for_this_format_and_its_prompt_says_so(runtime: Runtime) -> None:
    seen: list[object] = []

    class Asked(ScriptedModel):
        async def complete(self, messages: object, **options: object) -> ModelReply:
            seen.append(options.get("response_format"))
            return await super().complete(messages, **options)  # type: ignore[arg-type]

    agent = CodeAgent([], Asked(["hello", reply("final_answer 5")]), runtime=runtime, use_structured_outputs=True)
    result = agent.run("x")
    assert (result.output, result.steps[1].thought) == (5, "Because.")
    assert isinstance(seen[0], ResponseFormat)
    assert seen[0].schema is not None
    assert seen[0].schema["required"] == ["thought", "code"]
    assert "exactly one JSON object" in agent.system_prompt
    assert '"code": "final_answer(result)"' in result.steps[0].observation


def test_without_it_no_format_is_asked_for(runtime: Runtime) -> None:
    seen: list[dict[str, object]] = []

    class Asked(ScriptedModel):
        async def complete(self, messages: object, **options: object) -> ModelReply:
            seen.append(options)
            return await super().complete(messages, **options)  # type: ignore[arg-type]

    CodeAgent([], Asked(["```python\nfinal_answer 5\n```"]), runtime=runtime).run("x")
    assert seen == [{"stop": ()}]


def test_the_structured_prompt_is_as_short_as_the_other(runtime: Runtime) -> None:
    plain, structured = (code_agent(runtime, use_structured_outputs=on).system_prompt for on in (False, True))
    assert abs(len(plain) - len(structured)) < 200
