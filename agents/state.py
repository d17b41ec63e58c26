"""What changes during one run. Everything else only reads.

The rule: one `RunState` per run, found by the tools through a context variable: tools run with the context variables of
the task that runs the cell, so runs side by side never see each other's.
"""

from __future__ import annotations

import secrets
import threading
from contextvars import ContextVar
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from .answers import Answer
from .errors import BudgetExceeded
from .events import StepFinished
from .messages import Message, TokenUsage
from .result import ActionStep, AnyStep, FinalAnswerStep, RunResult, StepError, StopReason, TaskStep, Timing, ToolRecord

if TYPE_CHECKING:
    from .events import Emit, Event
    from .spec import AgentSpec, TaskSpec

_current: ContextVar[RunState] = ContextVar("cloche_run")


class RunState:
    """One run as it stands. Checks and callbacks may read it."""

    def __init__(self, task: TaskSpec, emit: Emit | None) -> None:
        self.task = task
        self.spec: AgentSpec = task.spec
        self.run_id = secrets.token_hex(8)
        self.emitter = emit
        self.ledger = task.ledger
        self.answer = Answer()
        self.messages: list[Message] = list(task.messages)
        self.steps: list[ActionStep] = []
        self.trace: list[AnyStep] = [TaskStep(task=task.task, inputs=task.previews, images=task.images)]
        self.number = 0
        """Of the step that goes on."""
        self.usage = TokenUsage()
        self.usage_complete = True
        self.pending: ActionStep | None = None
        """The step that goes on, as far as it is known."""
        self.rejected = 0
        """Answers that were not accepted."""
        self.denied: str | None = None
        """A hook said that the run must end; why."""
        self.overdrawn: BudgetExceeded | None = None
        """A cap that a tool ran into."""
        self.started = perf_counter()
        self._records: list[ToolRecord] = []
        self._gate = threading.Lock()

    @property
    def lineage(self) -> list[RunState]:
        """This run, the one that called it, and so on."""
        line: list[RunState] = [self]
        while line[-1].task.parent is not None:
            line.append(line[-1].task.parent)
        return line

    def emit(self, event: Event) -> None:
        if self.emitter is not None:
            self.emitter(event)

    # --- tool calls of the step; tools may run on several threads -----------------------------------------------------

    def add_record(self, record: ToolRecord) -> None:
        with self._gate:
            self._records.append(record)

    def take_records(self) -> tuple[ToolRecord, ...]:
        """Those that have ended, in the order in which they were asked for: which one ended first is chance."""
        with self._gate:
            records, self._records = self._records, []
        return tuple(sorted(records, key=lambda record: int(record.id)))

    # --- the end ------------------------------------------------------------------------------------------------------

    @property
    def has_answer(self) -> bool:
        """Whether there is an answer that counts. One that nobody checks counts as soon as it is given."""
        checked = bool(self.spec.checks) or self.spec.output.annotation is not None
        return self.answer.accepted or (self.answer.given and not checked)

    def finish(self, reason: StopReason) -> RunResult:
        """The result; a step that was cut short becomes the last one."""
        if self.pending is not None:
            stopped = StepError(type="Stopped", message=f"the run ended: {reason}")
            unfinished = replace(
                self.pending,
                tool_calls=self.take_records(),
                is_final=self.has_answer,
                error=None if self.has_answer else stopped,
            )
            self.pending = None
            self.steps.append(unfinished)
            self.trace.append(unfinished)
            self.emit(StepFinished(unfinished))
        if self.has_answer and not isinstance(self.trace[-1], FinalAnswerStep):
            self.trace.append(FinalAnswerStep(output=self.answer.value))
        return RunResult(
            output=self.answer.value if self.has_answer else None,
            stop_reason=reason,
            steps=tuple(self.steps),
            trace=tuple(self.trace),
            usage=self.usage,
            usage_complete=self.usage_complete,
            spent=self.ledger.spent,
            timing=Timing(
                total_s=perf_counter() - self.started,
                model_s=sum(step.model_s for step in self.steps),
                sandbox_s=sum(step.sandbox_s for step in self.steps),
            ),
            messages=tuple(self.messages),
            run_id=self.run_id,
        )


def current_run() -> RunState:
    """The run on whose behalf this code runs. Raises LookupError outside of one."""
    return _current.get()


def run_in_context() -> ContextVar[RunState]:
    """The variable itself, for the loop that sets it."""
    return _current
