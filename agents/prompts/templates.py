"""The prompts: Jinja templates beside this file, one name and version each, replaceable as a whole.

A template that names something which is not given raises; nothing renders as an empty string by accident. Templates run
in Jinja's sandboxed environment and get strings and lists of strings only.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from typing import Final, cast

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...runtime.errors import ConfigError

_ENVIRONMENT: Final = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)
_PREVIEW_ITEMS: Final = 6
_PREVIEW_CHARS: Final = 400
INPUT_CHARS: Final = 20_000
"""Of all inputs of a run that are shown in full: about 5000 tokens, a long page or a table of some hundred rows. More
is the work of a tool or of code: each request of the run sends it again."""


@dataclass(frozen=True)
class Prompts:
    """A set of prompts. Make your own with the sources of your templates and give it to the agent."""

    name: str
    version: int
    system: str = field(repr=False)
    """Source of the system prompt. Gets `stubs`, `packages` (lists of strings), `instructions` (a string or None)."""
    task: str = field(repr=False)
    """Source of the first user message. Gets `task` and `inputs` (items with `name`, `type`, `preview`). `preview` is
    the whole value for a `ToolCallingAgent`, as JSON where it can be; it has no other way to it."""
    plan: str | None = field(default=None, repr=False)
    """Source of the request for a plan. Gets `first` (a bool) and `remaining_steps` (a number). None here and below:
    the one that ships with the package."""
    proceed: str | None = field(default=None, repr=False)
    """Source of what is said after the plan."""
    last_answer: str | None = field(default=None, repr=False)
    """Source of the request for an answer when no steps are left. Gets `schema` (JSON as a string, or None)."""
    summary: str | None = field(default=None, repr=False)
    """Source of the request for a summary of old steps. Gets `text`."""

    @cached_property
    def sha256(self) -> str:
        """Hash of the sources, for logs: two runs with the same hash saw the same templates."""
        more = [text for text in (self.plan, self.proceed, self.last_answer, self.summary) if text is not None]
        return hashlib.sha256("\0".join([self.system, self.task, *more]).encode()).hexdigest()

    def render_system(self, *, stubs: Sequence[str], packages: Sequence[str], instructions: str | None) -> str:
        return _render(self.system, stubs=list(stubs), packages=list(packages), instructions=instructions)

    def render_task(self, *, task: str, inputs: Mapping[str, object], full: bool = False) -> str:
        """The task, and a bounded preview of each input; the values themselves go to the sandbox, not into the text.

        With `full` the values are in the text, for models that have no sandbox.

        Raises:
            ConfigError: the values in full are too large; a template cannot be.
        """
        described = [_describe(name, value) for name, value in inputs.items()]
        if full:
            left = INPUT_CHARS
            for entry, value in zip(described, inputs.values(), strict=True):
                entry["preview"] = _in_full(value, left)
                left -= len(entry["preview"])
        return _render(self.task, task=task, inputs=described)

    def render_plan(self, *, first: bool, remaining_steps: int) -> str:
        return _render(self.plan or _common("plan"), first=first, remaining_steps=remaining_steps)

    def render_proceed(self) -> str:
        return _render(self.proceed or _common("proceed"))

    def render_last_answer(self, *, schema: str | None) -> str:
        return _render(self.last_answer or _common("last_answer"), schema=schema)

    def render_summary(self, *, text: str) -> str:
        return _render(self.summary or _common("summary"), text=text)


def load_prompts(name: str = "code_agent", version: int = 1) -> Prompts:
    """The prompts of that name and version that ship with the package.

    Raises:
        ConfigError: there are none.
    """
    folder = files("cloche.agents.prompts")
    try:
        system, task = (
            (folder / f"{name}_v{version}_{part}.jinja").read_text(encoding="utf-8") for part in ("system", "task")
        )
    except FileNotFoundError:
        raise ConfigError(f"there are no prompts {name!r} in version {version}") from None
    return Prompts(name, version, system, task)


@cache
def _common(part: str) -> str:
    """A template that all agents share."""
    return (files("cloche.agents.prompts") / f"common_v1_{part}.jinja").read_text(encoding="utf-8")


def preview_of(value: object) -> str:
    """A bounded text of a value, for prompts and logs."""
    return _describe("", value)["preview"]


def _render(source: str, **values: object) -> str:
    try:
        return _compiled(source).render(values).strip()
    except TemplateError as exc:
        raise ConfigError(f"prompt template: {type(exc).__name__}: {exc}") from exc


@lru_cache(maxsize=128)
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def _describe(name: str, value: object) -> dict[str, str]:
    short = reprlib.Repr()
    short.maxlevel = 3
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = _PREVIEW_ITEMS
    short.maxstring = short.maxother = 120
    try:
        preview = short.repr(value)
    except ValueError:  # an int with more digits than Python prints
        preview = "..."
    if len(preview) > _PREVIEW_CHARS:
        preview = preview[:_PREVIEW_CHARS] + "..."
    return {"name": name, "type": _type_name(value), "preview": preview}


def _in_full(value: object, max_chars: int) -> str:
    """The value as JSON, or as Python shows it.

    Raises:
        ConfigError: it takes more characters.
    """
    chunks: list[str] = []
    size = 0
    try:
        for chunk in json.JSONEncoder(ensure_ascii=False).iterencode(value):
            chunks.append(chunk)
            size += len(chunk)
            if size > max_chars:  # the rest may be a gigabyte
                break
        text = "".join(chunks)
    except (TypeError, ValueError, RecursionError):
        text = _not_json(value)
    if len(text) > max_chars:
        raise ConfigError(
            f"the inputs take more than {INPUT_CHARS} characters, and this agent's model is shown them in full: give "
            "the agent a tool that reads the data, or take a CodeAgent, whose code has inputs as variables"
        )
    return text


def _not_json(value: object) -> str:
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(value, inf_nan_mode="strings").decode("utf-8")
    except (PydanticSerializationError, ValueError, RecursionError):
        pass
    try:
        return repr(value)
    except (ValueError, RecursionError):  # an int with more digits than Python prints, a value too deep
        return preview_of(value)


def _type_name(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, str | bytes | list | tuple | dict | set | frozenset):
        return f"{kind} of length {len(cast('Sized', value))}"
    return kind
