"""Agents over a scripted model and a scripted worker, for unit tests."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from tests.support.agent_worker import serve

from cloche.agents.code_agent import CodeAgent
from cloche.agents.messages import ModelReply, ToolCallRequest
from cloche.agents.models.scripted import Line, ScriptedModel
from cloche.agents.tool_calling_agent import ToolCallingAgent
from cloche.runtime.fake_link import FakeSource
from cloche.runtime.runtime import Runtime

BOUND_S = 30.0
REACHED_S = 3.0
"""A deadline by which a run has come to where it hangs, also where the machine stands still for a while."""


def get_price(item: str) -> float:
    """Price of an item."""
    return {"tea": 3.5, "milk": 1.25}[item]


@contextmanager
def fake_runtime(source: FakeSource | None = None) -> Generator[Runtime]:
    """A runtime whose workers do what `agent_worker.serve` reads in the code."""
    with Runtime(sources={"process": source or FakeSource(serve)}, max_sandboxes=200, close_deadline_s=1) as made:
        yield made


def code_agent(runtime: Runtime, *lines: Line, **options: object) -> CodeAgent:
    """A code agent with one tool and these replies."""
    return CodeAgent([get_price], ScriptedModel(lines), runtime=runtime, **options)  # type: ignore[arg-type]


def tool_agent(*lines: Line, **options: object) -> ToolCallingAgent:
    """A tool-calling agent with one tool and these replies."""
    return ToolCallingAgent([get_price], ScriptedModel(lines), **options)  # type: ignore[arg-type]


def calls(*pairs: tuple[str, Mapping[str, object]], text: str = "") -> ModelReply:
    """A reply that asks for these tool calls."""
    requests = tuple(ToolCallRequest(str(index), name, dict(given)) for index, (name, given) in enumerate(pairs))
    return ModelReply(text=text, tool_calls=requests, finish_reason="tool_calls")


def started(target: object, *arguments: object) -> threading.Thread:
    """A daemon thread that runs already."""
    thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread
