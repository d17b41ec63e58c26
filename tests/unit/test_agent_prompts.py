"""The prompts: short, complete, strict, replaceable."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from pathlib import Path

import pytest
from jinja2 import Environment, meta

from cloche.agents.code_agent import CodeAgent
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.prompts.templates import Prompts, load_prompts
from cloche.runtime.errors import ConfigError
from cloche.runtime.tools import Tool

TOKEN_CHARS = 3.5
"""Characters per token of English with code, on the low side for the tokenizers in use: Qwen2.5 has 4.2 here, 372
tokens in all."""


def get_price(item: str, currency: str = "EUR") -> float:
    """Price of one item.

    Args:
        item: name of the item, lower case.
        currency: three letters.
    """
    return len(item) + len(currency)


def list_items() -> list[str]:
    """Names of all items."""
    return []


def order(items: dict[str, int]) -> str:
    """Orders items by name and count; returns the order's number."""
    return str(items)


def system_prompt(**options: object) -> str:
    return CodeAgent([get_price, list_items, order], ScriptedModel([]), **options).system_prompt  # type: ignore[arg-type]


def test_the_system_prompt_with_three_tools_is_at_most_700_tokens() -> None:
    assert len(system_prompt()) / TOKEN_CHARS <= 700


def test_the_system_prompt_has_each_tool_as_a_typed_stub_with_its_docstring() -> None:
    prompt = system_prompt()
    assert "def get_price(item: str, currency: str = 'EUR') -> float:" in prompt
    assert "item: name of the item, lower case." in prompt
    assert "def list_items() -> list[str]:" in prompt
    assert "def final_answer(value: Any) -> None:" in prompt
    assert prompt.count("final_answer(max(words, key=len))") == 1


def test_instructions_and_packages_are_added() -> None:
    prompt = system_prompt(instructions="Answer in Swedish.", additional_authorized_imports=["numpy", "pandas"])
    assert prompt.endswith("\n\nAnswer in Swedish.")
    assert "standard library, and numpy, pandas." in prompt
    assert "None" not in system_prompt().replace("-> None", "")


def test_inputs_are_shown_as_short_previews() -> None:
    rows = [{"name": f"n{i}", "value": i} for i in range(1000)]
    inputs: dict[str, object] = {"rows": rows, "label": "x" * 1000, "count": 3, "big": 10**5000}
    text = load_prompts().render_task(task="Sum them.", inputs=inputs)
    lines = text.split("\n")
    assert lines[:3] == ["Task: Sum them.", "", "These variables are defined:"]
    assert lines[3].startswith("- rows: list of length 1000 = [{'name': 'n0', 'value': 0}, ")
    assert lines[5] == "- count: int = 3"
    assert len(text) < 1500


def test_inputs_in_full_are_json_where_they_can_be() -> None:
    loop: list[object] = []
    loop.append(loop)
    inputs: dict[str, object] = {
        "text": 'a "ü"\n' + "x" * 1000,
        "rows": [{"item": "tea", "n": None}] * 20,
        "day": date(2024, 1, 2),
        "what": {1, 2}.union,
        "loop": loop,
    }
    shown = load_prompts("tool_calling_agent").render_task(task="Sum.", inputs=inputs, full=True).split("\n")
    lines = dict(line.removeprefix("- ").split(": ", 1) for line in shown if line.startswith("- "))
    assert lines["text"] == 'str of length 1006 = "a \\"ü\\"\\n' + "x" * 1000 + '"'
    assert json.loads(lines["rows"].partition(" = ")[2]) == inputs["rows"]
    assert lines["day"] == 'date = "2024-01-02"'
    assert "built-in method union" in lines["what"]
    assert lines["loop"].endswith("[[...]]")


@pytest.mark.parametrize(
    "inputs",
    [{"a": "x" * 9_999, "b": "x" * 9_999}, {"a": list(range(10_000))}, {"a": {date(2024, 1, 2): "x" * 20_000}}],
)
def test_inputs_in_full_have_a_cap_for_all_of_them(inputs: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="the inputs take more than 20000 characters.*a tool that reads the data"):
        load_prompts("tool_calling_agent").render_task(task="Sum.", inputs=inputs, full=True)


def test_without_inputs_the_task_is_all() -> None:
    assert load_prompts().render_task(task="What is {{ this }}?", inputs={}) == "Task: What is {{ this }}?"


def test_a_template_that_names_something_unknown_is_refused() -> None:
    prompts = Prompts("mine", 1, system="{{ nothing }}", task="{{ task }}")
    with pytest.raises(ConfigError, match="UndefinedError: 'nothing' is undefined"):
        system_prompt(prompts=prompts)


def test_a_template_cannot_reach_into_python() -> None:
    prompts = Prompts("mine", 1, system="{{ stubs.__class__.__mro__ }}", task="{{ task }}")
    with pytest.raises(ConfigError, match="SecurityError"):
        system_prompt(prompts=prompts)


def test_prompts_may_be_replaced_and_are_told_apart_by_their_hash() -> None:
    mine = Prompts("mine", 2, system="Tools: {{ stubs | length }}", task="{{ task }}")
    assert system_prompt(prompts=mine) == "Tools: 4"
    assert mine.sha256 != load_prompts().sha256 == load_prompts("code_agent", 1).sha256


def test_prompts_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="there are no prompts 'code_agent' in version 99"):
        load_prompts(version=99)


@pytest.mark.parametrize("name", ["code_agent", "code_agent_structured", "tool_calling_agent"])
def test_every_shipped_system_prompt_is_short(name: str) -> None:
    tools = [Tool(get_price), Tool(list_items), Tool(order)]
    prompt = load_prompts(name).render_system(stubs=[tool.stub for tool in tools], packages=[], instructions="Be kind.")
    assert len(prompt) / TOKEN_CHARS <= 700
    assert prompt.endswith("\n\nBe kind.")


def test_the_default_prompt_is_the_one_that_was_recorded() -> None:
    """Another text would make recorded conversations useless: it needs a new version."""
    assert load_prompts().sha256 == "beceae91351b505523b5a9bedd3bf7cd850271fa30a58d4949f7575082adf322"


def test_shared_templates_are_strict_too() -> None:
    mine = Prompts("mine", 1, system="s", task="t", plan="{{ steps }}")
    with pytest.raises(ConfigError, match="'steps' is undefined"):
        mine.render_plan(first=True, remaining_steps=3)


def test_the_page_lists_the_variables_that_each_template_gets(root: Path) -> None:
    page = (
        (root / "docs/agents.md").read_text(encoding="utf-8").partition("| template | gets |")[2].partition("\n\n")[0]
    )
    rows = {row.split("|")[1].strip(" `"): row for row in page.split("\n")[2:]}
    fields = [field.name for field in dataclasses.fields(Prompts) if field.name not in ("name", "version")]
    assert list(rows) == fields
    for name in fields:
        own = getattr(load_prompts(), name)
        source = own or (root / f"agents/prompts/common_v1_{name}.jinja").read_text(encoding="utf-8")
        found = meta.find_undeclared_variables(Environment(autoescape=True).parse(source))
        assert [variable for variable in found if f"`{variable}`" not in rows[name]] == []
