"""One run of an agent: ask the model -> do what it says -> tell it what came of that, until it gives its answer.

The rule: everything that changes during a run lives in one `RunState`; the agent is only read. A run ends for a reason
that its result names, wherever it stands: cancelling and the deadline are one mechanism, a cancel scope around it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from ..runtime.loop_hook import LoopHook
from .answers import judge
from .asking import Asker
from .callbacks import tell
from .code_actor import CodeActor
from .errors import AgentError, AnswerRejected, BudgetExceeded
from .events import Emit, ModelReplied, PlanMade, RunFinished, StepFinished, StepStarted
from .hooks import Veto
from .messages import Message
from .observation import did_not_compile
from .result import ActionStep, FinalAnswerStep, PlanningStep, RunResult, StopReason
from .run_logs import log_end, log_failure, log_start, log_step
from .state import RunState, run_in_context
from .tool_actor import ToolActor
from .tracing import Operation, Outcome

if TYPE_CHECKING:
    from .acting import Actor
    from .spec import TaskSpec

VARIABLES_GONE: Final = "The interpreter was started afresh: variables of earlier blocks are gone, but for the inputs."
FREE_REPAIRS: Final = 3
"""Cells in a row that did not compile and cost no step."""


class Run:
    """One run. Await `drive()` once."""

    def __init__(self, task: TaskSpec, emit: Emit | None = None) -> None:
        self._task = task
        self._spec = task.spec
        self.state: Final = RunState(task, emit)
        self._asker = Asker(self.state)
        self._planned_at: set[int] = set()
        """Steps before which a plan was made."""
        self._cancelled = False
        self._scope: anyio.CancelScope | None = None
        self._hook: LoopHook | None = None

    def cancel(self) -> None:
        """End the run soon, wherever it stands, with what it has by then. From any thread; idempotent."""
        self._cancelled = True
        if self._hook is not None and self._scope is not None:
            self._hook.call(self._scope.cancel)

    async def drive(self) -> RunResult:
        """Run to the end.

        Raises:
            AgentError: the model gave no usable reply; `result` has the steps so far.
            ClocheError: no sandbox could be had, or an input cannot enter one.
        """
        state, tracer = self.state, self._spec.tracer
        variable = run_in_context()
        token = variable.set(state)
        parent = self._task.parent
        facts = {"task": self._task.task, "agent_description": self._spec.description}
        if parent is not None:
            facts["parent_run_id"] = parent.run_id
        operation = Operation(kind="invoke_agent", name=self._spec.name, run_id=state.run_id, step=0, facts=facts)
        end = tracer.begin(operation) if tracer is not None else _nothing
        log_start(state.run_id, self._spec.name, len(self._spec.tools))
        try:
            result = state.finish(await self._within_deadline())
        except BaseException as exc:
            if isinstance(exc, AgentError):
                exc.result = state.finish("error")
            end(Outcome(error=exc))
            log_failure(state.run_id, exc)
            raise
        finally:
            variable.reset(token)
        end(Outcome(facts={"result": result}))
        log_end(result)
        state.emit(RunFinished(result))
        return result

    async def _within_deadline(self) -> StopReason:
        deadline_s = self._task.deadline_s
        reason: StopReason = "max_steps"
        with anyio.move_on_after(math.inf if deadline_s is None else deadline_s) as scope:
            self._hook, self._scope = LoopHook(), scope
            if self._cancelled:
                scope.cancel()
            try:
                async with self._actor() as actor:
                    reason = await self._loop(actor)
            except BudgetExceeded:
                reason = "budget"
            except Veto:
                reason = "denied"
        self._scope = None
        if scope.cancelled_caught:
            reason = "cancelled" if self._cancelled else "timeout"
        return "final" if self.state.has_answer and reason in ("final", "cancelled", "timeout", "budget") else reason

    @asynccontextmanager
    async def _actor(self) -> AsyncGenerator[Actor]:
        home = self._task.home
        if home is None:
            yield ToolActor(self.state)
            return
        async with home.visit(self._task.inputs) as box:
            if home.replaced:
                home.replaced = False
                self.state.messages[:] = add_user(self.state.messages, VARIABLES_GONE)
            yield CodeActor(self.state, box, home)

    async def _loop(self, actor: Actor) -> StopReason:
        state = self.state
        charged, free = 0, 0
        await tell(state, state.trace[0])
        while charged < self._task.max_steps:
            state.number += 1
            await self._plan(actor, charged)
            step = await self._step(actor)
            if step.is_final:
                await self._announce_answer()
                return "final"
            if state.denied is not None:
                return "denied"
            if state.overdrawn is not None:
                return "budget"
            free = free + 1 if step.cell is not None and did_not_compile(step.cell) else 0
            if not 0 < free <= FREE_REPAIRS:
                charged += 1
        if self._spec.answer_at_max_steps:
            await self._last_answer(actor)
        return "max_steps"

    # --- a step -------------------------------------------------------------------------------------------------------

    async def _step(self, actor: Actor) -> ActionStep:
        state = self.state
        state.emit(StepStarted(state.number))
        reply, model_s = await self._asker.ask(state.messages, **actor.request)  # type: ignore[arg-type]  # the actor's own options
        state.pending = ActionStep(number=state.number, reply=reply, model_s=model_s)
        state.messages.append(actor.said(reply))
        state.emit(ModelReplied(state.number, reply))
        step, told = await actor.act(reply, state.pending)
        state.pending = None
        state.steps.append(step)
        state.trace.append(step)
        state.messages.extend(told)
        state.emit(StepFinished(step))
        log_step(state.run_id, step)
        await tell(state, step)
        self._count_rejection(step)
        return step

    def _count_rejection(self, step: ActionStep) -> None:
        if step.error is None or step.error.type != AnswerRejected.__name__:
            return
        self.state.rejected += 1
        if self.state.rejected > self._spec.output_retries:
            raise AnswerRejected(f"{self.state.rejected} answers were rejected, the last one: {step.error.message}")

    # --- beside the steps ---------------------------------------------------------------------------------------------

    async def _plan(self, actor: Actor, charged: int) -> None:
        """Have the model make a plan, or look at it again, where one is due."""
        interval, state = self._spec.planning_interval, self.state
        if interval is None or charged % interval or charged in self._planned_at:
            return
        remaining = self._task.max_steps - charged
        prompts = self._spec.prompts
        asked = prompts.render_plan(first=not self._planned_at, remaining_steps=remaining)
        self._planned_at.add(charged)
        state.messages[:] = add_user(state.messages, asked)
        reply, model_s = await self._asker.ask(state.messages, stream=False, **actor.aside)  # type: ignore[arg-type]  # the actor's own options
        state.messages.append(replace(reply.message, content=reply.text or "(no plan)", tool_calls=()))
        state.messages.append(Message("user", prompts.render_proceed()))
        plan = PlanningStep(number=state.number, plan=reply.text.strip(), reply=reply, model_s=model_s)
        state.trace.append(plan)
        state.emit(PlanMade(plan))
        await tell(state, plan)

    async def _last_answer(self, actor: Actor) -> None:
        """No steps are left: one more request, for an answer in words."""
        state = self.state
        schema = self._spec.output.schema_text()
        state.messages[:] = add_user(state.messages, self._spec.prompts.render_last_answer(schema=schema))
        reply, _ = await self._asker.ask(state.messages, stream=False, **actor.aside)  # type: ignore[arg-type]  # the actor's own options
        state.messages.append(replace(reply.message, tool_calls=()))
        state.answer.take_back()
        state.answer.give(self._spec.output.parse_text(reply.text.strip()))
        if await judge(state) is None:
            await self._announce_answer()
        else:
            state.answer.take_back()

    async def _announce_answer(self) -> None:
        answer = FinalAnswerStep(output=self.state.answer.value)
        self.state.trace.append(answer)
        await tell(self.state, answer)


def add_user(messages: Sequence[Message], text: str) -> list[Message]:
    """The conversation with more words of the user. Two messages of a user in a row are one: some models refuse two."""
    if messages and messages[-1].role == "user":
        last = messages[-1]
        return [*messages[:-1], replace(last, content=f"{last.content}\n\n{text}")]
    return [*messages, Message("user", text)]


def _nothing(outcome: Outcome) -> None:
    """No tracer."""
