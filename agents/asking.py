"""One request to the model: shorten the conversation if it must be, reserve, let the hooks see it, ask, count.

The rule: nothing goes out that the budget has no room for, and every reply is counted once, where the whole of it
arrives, streamed or not. A request that was abandoned costs what it was estimated to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from .compaction import CHARS_PER_TOKEN, GONE, Compaction, TokenMeter, compacted, middle, without_middle
from .errors import AgentError, BudgetExceeded
from .events import ModelDelta
from .hooks import ModelCall, Veto, overridden, settled
from .messages import Message, ModelReply, ResponseFormat, TokenUsage, ToolChoice, ToolSchema
from .models.prices import Prices
from .result import ActionStep
from .tracing import Operation, Outcome

if TYPE_CHECKING:
    from .budget import Reservation
    from .state import RunState

LEAST_REPLY_TOKENS: Final = 64
"""A budget with less room than this for a reply is used up."""
_UNPRICED: Final = (
    "the budget has a cap in dollars, and the model {!r} does not say what its replies cost: "
    "give Budget(prices=Prices(...)), or the model its prices"
)


class Asker:
    """Asks the model on behalf of one run."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._meter = TokenMeter()
        self._counts = any(run.ledger.left(kind) < float("inf") for kind in ("tokens", "cost_usd"))
        """Whether requests have to be estimated for the budget."""
        self._dollars_per_token = 0.0
        self._task = run.task.messages[-1].content
        self._note = ""
        """What the last compaction wrote at the end of the task."""

    async def ask(
        self,
        messages: list[Message],
        *,
        stream: bool = True,
        tools: Sequence[ToolSchema] = (),
        tool_choice: ToolChoice | None = None,
        response_format: ResponseFormat | None = None,
    ) -> tuple[ModelReply, float]:
        """The model's reply and the seconds it took. `messages` is shortened in place when the window fills.

        Raises:
            BudgetExceeded: there is no room for a request.
            Veto: a hook refuses it.
            ModelError: no usable reply.
        """
        run = self._run
        await self._make_room(messages)
        call = ModelCall(run_id=run.run_id, step=run.number, messages=tuple(messages))
        sent = await self._before(call)
        options: dict[str, object] = {}
        if tools:
            options.update(tools=tools, tool_choice=tool_choice)
        if response_format is not None:
            options.update(response_format=response_format)
        reserved = self._reserve(sent, options)
        started = perf_counter()
        reply = await self._complete(sent, options, reserved, stream)
        seconds = perf_counter() - started
        for entry in overridden(run.spec.hooks, "after_model"):
            edited: ModelReply | None = await settled(entry.after_model(call, reply))
            reply = edited or reply
        return reply, seconds

    async def _before(self, call: ModelCall) -> Sequence[Message]:
        messages = call.messages
        for entry in overridden(self._run.spec.hooks, "before_model"):
            try:
                asked = entry.before_model(replace(call, messages=messages))
                edited: Sequence[Message] | None = await settled(asked)
                messages = edited or messages
            except Veto as veto:
                self._run.denied = veto.reason
                raise
        return messages

    async def _complete(
        self, messages: Sequence[Message], options: dict[str, object], reserved: Reservation, stream: bool
    ) -> ModelReply:
        run, model = self._run, self._run.spec.model
        started = perf_counter()
        complete, run.usage_complete = run.usage_complete, False  # until the reply is here and counted
        tracer = run.spec.tracer
        end = None
        if tracer is not None:
            facts = {"messages": messages, **options}
            end = tracer.begin(Operation(kind="chat", name=model.name, run_id=run.run_id, step=run.number, facts=facts))
        said: list[str] = []
        try:
            if stream and run.emitter is not None:
                options["on_text"] = partial(self._show, said)
            reply = await model.complete(messages, stop=run.spec.stop, **options)  # type: ignore[arg-type]  # checked by the protocol's tests
        except BaseException as exc:
            self._count_abandoned(messages, reserved, failed=isinstance(exc, AgentError))
            if said and not isinstance(exc, Exception):  # cancelled: what it had said by then is part of the result
                reply = ModelReply(text="".join(said), finish_reason="other")
                run.pending = ActionStep(number=run.number, reply=reply, model_s=perf_counter() - started)
            if end is not None:
                end(Outcome(error=exc))
            raise
        if end is not None:
            end(Outcome(facts={"reply": reply}))
        self._count(messages, reply, reserved)
        run.usage_complete = complete and reply.usage is not None
        return reply

    def _show(self, said: list[str], text: str) -> None:
        said.append(text)
        self._run.emit(ModelDelta(self._run.number, text))

    # --- counting -----------------------------------------------------------------------------------------------------

    def _reserve(self, messages: Sequence[Message], options: dict[str, object]) -> Reservation:
        ledger = self._run.ledger
        if not self._counts:
            return ledger.reserve(steps=1)
        asked = self._meter.estimate(messages)
        prices = self._prices()
        reply = int(self._reply_room(asked, prices))
        options["max_tokens"] = reply
        cost = prices.cost_usd(asked, reply) if prices is not None else 0.0
        return ledger.reserve(steps=1, tokens=asked + reply, cost_usd=min(cost, ledger.left("cost_usd")))

    def _reply_room(self, asked: int, prices: Prices | None) -> float:
        """Tokens that the reply may have.

        Raises:
            BudgetExceeded: too few for a reply.
        """
        ledger = self._run.ledger
        tokens, dollars = ledger.left("tokens"), ledger.left("cost_usd")
        room = min(self._run.spec.reply_tokens, tokens - asked)
        if room < LEAST_REPLY_TOKENS:
            raise BudgetExceeded("tokens", needed=asked + LEAST_REPLY_TOKENS, left=tokens, allowed=tokens)
        if prices is not None and prices.output > 0:
            room = min(room, (dollars - prices.cost_usd(asked, 0)) / prices.output * 1e6)
        if room < LEAST_REPLY_TOKENS or dollars <= 0:
            needed = prices.cost_usd(asked, LEAST_REPLY_TOKENS) if prices is not None else 0.0
            raise BudgetExceeded("cost_usd", needed=needed, left=dollars, allowed=dollars)
        return room

    def _count_abandoned(self, messages: Sequence[Message], reserved: Reservation, *, failed: bool) -> None:
        """Nobody counts a request that was broken off: its tokens are estimated. One that failed cost nothing."""
        asked = self._meter.estimate(messages) if self._counts and not failed else 0
        prices = self._prices()
        reserved.settle(steps=1, tokens=asked, cost_usd=prices.cost_usd(asked, 0) if prices is not None else 0.0)

    def _count(self, messages: Sequence[Message], reply: ModelReply, reserved: Reservation) -> None:
        run = self._run
        usage = reply.usage
        if usage is not None:
            run.usage += usage
        counted = usage or TokenUsage(
            input_tokens=self._meter.estimate(messages), output_tokens=int(len(reply.text) / CHARS_PER_TOKEN)
        )
        self._meter.learn(messages, counted.input_tokens)
        cost = counted.cost_usd
        if cost is None and run.ledger.prices is not None:
            cost = run.ledger.prices.cost_of(counted)
        reserved.settle(steps=1, tokens=counted.total_tokens, cost_usd=cost or 0.0)
        if cost is not None and counted.total_tokens:
            self._dollars_per_token = max(self._dollars_per_token, cost / counted.total_tokens)
        if cost is None and run.ledger.left("cost_usd") < float("inf"):
            raise AgentError(_UNPRICED.format(run.spec.model.name))

    def _prices(self) -> Prices | None:
        """What a token costs: as told, or the most that one of this run has cost."""
        told = self._run.ledger.prices or getattr(self._run.spec.model, "prices", None)
        if isinstance(told, Prices):
            return told
        if not self._dollars_per_token:
            return None
        return Prices(input=self._dollars_per_token * 1e6, output=self._dollars_per_token * 1e6)

    # --- the window ---------------------------------------------------------------------------------------------------

    async def _make_room(self, messages: list[Message]) -> None:
        compaction = self._run.spec.compaction
        if compaction is None:
            return
        room = compaction.context_tokens - min(self._run.spec.reply_tokens, compaction.context_tokens // 4)
        if self._meter.estimate(messages) <= room:
            return
        self._meter.forget()
        if self._note:  # what an earlier compaction left comes away before the next one adds its own
            head = [replace(message, content=message.content.replace(self._note, "", 1)) for message in messages[:2]]
            messages[:2] = head
        if compaction.summarize:
            self._note = await self._summary(messages, compaction)
            messages[:] = without_middle(messages, compaction, self._note, self._task)
        else:
            self._note = GONE
            messages[:] = compacted(messages, compaction, room, self._task)

    async def _summary(self, messages: Sequence[Message], compaction: Compaction) -> str:
        """What the model says of the part that is left out, and of the summary before it."""
        head, tail = middle(messages, compaction)
        old = [self._note.strip(), *(f"{message.role}: {message.content}" for message in messages[head:tail])]
        request = [Message("user", self._run.spec.prompts.render_summary(text="\n\n".join(filter(None, old))))]
        options: dict[str, object] = {}
        reserved = self._reserve(request, options)
        reply = await self._complete(request, options, reserved, stream=False)
        self._meter.forget()
        return f"{GONE}\n{reply.text.strip()}"
