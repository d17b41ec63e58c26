"""The seam for traces: one object that is told when a run, a model call, a cell or a tool call begins and ends.

The rule: `begin` is called in the context (task and context variables) of what begins, and what it returns is called
exactly once when that is over, however it ends: in the same task, except for a tool call, which may begin and end on
different threads. So a tracer may make the span of a run, a model call or a cell the current one: what begins inside
sees it as its parent. A tracer must not block and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

OperationKind = Literal["invoke_agent", "chat", "execute_tool", "cell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What begins."""

    kind: OperationKind
    name: str
    """Of the agent, the model or the tool; `python` for a cell."""
    run_id: str
    """The same for all that belongs to one run. A sub-agent's run has its own."""
    step: int
    """Number of the step, from 1; 0 before the first."""
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    """What is known by now. invoke_agent: `task`, `parent_run_id`, `agent_description`. chat: `messages`. cell: `code`.
    execute_tool: `call_id`, `arguments`. Values may hold what users and guests wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it ended."""

    error: BaseException | None = None
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    """invoke_agent: `result` (RunResult). chat: `reply` (ModelReply). cell: `cell` (Cell or None). execute_tool:
    `record` (ToolRecord) and `result`."""


End = Callable[[Outcome], None]


class Tracer(Protocol):
    """Told of all that a run does."""

    def begin(self, operation: Operation) -> End:
        """Something begins; the result is called when it is over."""
        ...
