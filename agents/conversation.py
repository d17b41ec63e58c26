"""`Conversation`: runs of one agent that share their messages and their sandbox, one after the other.

The rule: the agent knows nothing of it. A run that was cut short leaves what it had done; the next one goes on from
there. Of a sandbox that was lost the next run gets a fresh one with all inputs so far, and the model is told.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

import anyio

from ..runtime.errors import ConfigError, SandboxBusy, SandboxClosed
from ..runtime.runtime_core import core_of
from .agent import Runnable, RunOptions
from .errors import AgentError
from .events import Emit
from .loop import Run, add_user
from .messages import Message
from .result import RunResult, StopReason
from .streams import MakeRun, wait_for

if TYPE_CHECKING:
    from typing import Self

    from .agent import Agent
    from .spec import TaskSpec


class Conversation(Runnable):
    """Takes tasks like an agent, and remembers. One run at a time; close it at the end."""

    def __init__(self, agent: Agent, *, tenant: str | None = None) -> None:
        """Nothing is started before the first run. `tenant`: on whose behalf the sandbox is."""
        self.agent = agent
        self.tenant = tenant
        self._runtime = agent._runtime
        self._home = agent.new_home(keep=True, tenant=tenant)
        self._messages: tuple[Message, ...] = ()
        self._results: list[RunResult] = []
        self._gate = threading.Lock()
        self._busy = False
        self._closed = False

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages so far, the system prompt first; empty before the first run."""
        return self._messages

    @property
    def results(self) -> tuple[RunResult, ...]:
        """The results so far. Those of runs that were cancelled, or whose stream was left, say `cancelled`."""
        return tuple(self._results)

    def load(self, messages: tuple[Message, ...]) -> None:
        """Go on from these messages instead (of an earlier conversation). The sandbox is what it is.

        Raises:
            SandboxBusy: a run goes on.
        """
        with self._gate:
            self._check()
            self._messages = tuple(messages)

    def to_json(self) -> str:
        """Messages and results as versioned JSON text (docs/memory.md). What is in the sandbox is not in it.

        Raises:
            SandboxBusy: a run goes on.
            MemoryFileError: an output is no plain data.
        """
        from .memory import conversation_to_json

        with self._gate:
            if self._busy:
                raise SandboxBusy("a run of this conversation goes on; wait for it or cancel it")
            messages, results = self._messages, tuple(self._results)
        return conversation_to_json(messages, results)

    @classmethod
    def from_json(
        cls, agent: Agent, data: str | bytes, *, tenant: str | None = None, max_bytes: int = 64 * 1024 * 1024
    ) -> Conversation:
        """A conversation that goes on where the saved one was. Runs nothing.

        The system prompt is this agent's own, whatever the text says. The sandbox is a fresh one, without the variables
        and inputs of before; if code had run, the model is told at the next run.

        Raises:
            MemoryFileError: the text is none of `to_json`'s, is another version's, or is larger than `max_bytes`.
        """
        from .memory import conversation_from_json

        messages, results = conversation_from_json(data, max_bytes=max_bytes)
        made = cls(agent, tenant=tenant)
        if messages:
            said = [message for message in messages if message.role != "system"]
            made._messages = (Message("system", agent.system_prompt), *said)
        made._results = list(results)
        if made._home is not None:
            made._home.replaced = any(step.cell is not None for result in results for step in result.steps)
        return made

    def close(self) -> None:
        """Close the sandbox; blocks. Idempotent.

        Raises:
            SandboxBusy: a run goes on; cancel it first.
        """
        if self._begin_close():
            wait_for(core_of(self._runtime).tool_loop.start, self._leave)

    async def aclose(self) -> None:
        """As `close`, on the caller's loop."""
        if self._begin_close():
            await self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {self.agent!r}, {len(self._results)} runs>"

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _maker(self, task: str, inputs: Mapping[str, object] | None, options: RunOptions) -> MakeRun:
        if options.get("tenant") is not None:
            raise ConfigError("the tenant of a conversation is given when it begins: agent.conversation(tenant=...)")
        options = {**options, "tenant": self.tenant}
        history = self._messages  # read once: a run that ends meanwhile puts others there, and `begin` has to see that
        spec = self.agent.task_spec(task, inputs, options, history=history, home=self._home)
        if history:
            *_, said = spec.messages
            messages = add_user(history, said.content)
            if said.images:
                messages[-1] = replace(messages[-1], images=(*messages[-1].images, *said.images))
            spec = replace(spec, messages=messages)
        return partial(_Turn, self, spec, history)

    def begin(self, history: tuple[Message, ...]) -> None:
        """A run starts, which was made to continue this history. Internal.

        Raises:
            SandboxBusy: another goes on, or came in between. SandboxClosed: the conversation was closed.
        """
        with self._gate:
            self._check()
            if history is not self._messages:
                raise SandboxBusy("another run of this conversation came in between; start this one again")
            self._busy = True

    def end(self, result: RunResult | None) -> None:
        """It is over. Internal."""
        with self._gate:
            self._busy = False
            if result is not None:
                self._results.append(result)
                self._messages = result.messages

    def _check(self) -> None:
        if self._closed:
            raise SandboxClosed("the conversation was closed; start another")
        if self._busy:
            raise SandboxBusy("a run of this conversation goes on; wait for it or cancel it")

    def _begin_close(self) -> bool:
        with self._gate:
            if self._closed:
                return False
            self._check()
            self._closed = True
            return True

    async def _leave(self) -> None:
        if self._home is not None:
            await self._home.leave()


class _Turn(Run):
    """A run that leaves its messages to the conversation."""

    def __init__(
        self, conversation: Conversation, task: TaskSpec, history: tuple[Message, ...], emit: Emit | None = None
    ) -> None:
        super().__init__(task, emit)
        self._conversation = conversation
        self._history = history

    async def drive(self) -> RunResult:
        """As `Run.drive`."""
        self._conversation.begin(self._history)
        result: RunResult | None = None
        reason: StopReason = "error"
        try:
            result = await super().drive()
            return result
        except AgentError as exc:
            result = exc.result
            raise
        except anyio.get_cancelled_exc_class():
            # The task was cancelled, a timeout around it passed, or its stream was left.
            reason = "final" if self.state.has_answer else "cancelled"
            raise
        finally:
            self._conversation.end(result or self.state.finish(reason))
