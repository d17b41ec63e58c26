"""Budgets: reserve first, then spend; never more than a cap, also for children that run side by side."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from tests.support.agent_worker import block, serve
from tests.support.agents import REACHED_S

from cloche.agents.budget import Budget, Ledger, Reservation, Spent
from cloche.agents.code_agent import CodeAgent
from cloche.agents.errors import AgentError, BudgetExceeded
from cloche.agents.loop import Run
from cloche.agents.messages import Message, ModelReply, TokenUsage
from cloche.agents.models.prices import Prices
from cloche.agents.models.scripted import Line, ScriptedModel
from cloche.agents.tool_watch import ToolWatch
from cloche.runtime.errors import ConfigError
from cloche.runtime.fake_link import FakeSource
from cloche.runtime.limits import Limits
from cloche.runtime.runtime import Runtime
from cloche.runtime.tool_hooks import Allow, Deny, ToolFinished, ToolRequest, ToolStarted

BOUND_S = 30.0


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime(sources={"process": FakeSource(serve)}, max_sandboxes=50, close_deadline_s=1) as made:
        yield made


def get_price(item: str) -> float:
    """Price of an item."""
    return {"tea": 3.5, "milk": 1.25}[item]


def agent_for(runtime: Runtime, *lines: Line, **options: object) -> CodeAgent:
    return CodeAgent([get_price], ScriptedModel(lines), runtime=runtime, **options)  # type: ignore[arg-type]


# --- the ledger -------------------------------------------------------------------------------------------------------


class Ledgers(RuleBasedStateMachine):
    """A tree of ledgers against plain sums."""

    ledgers = Bundle("ledgers")
    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.root = Ledger(Budget(tokens=1000, sandbox_s=10.0))
        self.all = [self.root]
        self.caps = [{"tokens": 1000.0, "sandbox_s": 10.0}]
        self.open: dict[int, tuple[Reservation, float, float]] = {}
        self.spent_tokens = 0

    @rule(target=ledgers)
    def the_root(self) -> Ledger:
        return self.root

    @rule(target=ledgers, parent=ledgers, share=st.floats(0.01, 1), own=st.none() | st.integers(0, 500))
    def add_child(self, parent: Ledger, share: float, own: int | None) -> Ledger:
        left = {kind: parent.left(kind) for kind in ("tokens", "sandbox_s")}
        child = parent.child(share, Budget(tokens=own))
        cap = math.ceil(left["tokens"] * share - 1e-9)
        self.all.append(child)
        self.caps.append({"tokens": cap if own is None else min(cap, own), "sandbox_s": left["sandbox_s"] * share})
        return child

    @rule(target=reservations, ledger=ledgers, tokens=st.integers(0, 400), seconds=st.floats(0, 4))
    def reserve(self, ledger: Ledger, tokens: int, seconds: float) -> int:
        left = ledger.left("tokens"), ledger.left("sandbox_s")
        try:
            made = ledger.reserve(tokens=tokens, sandbox_s=seconds)
        except BudgetExceeded:
            made = None
        if made is None:
            assert tokens > left[0] or seconds > left[1]
            assert (ledger.left("tokens"), ledger.left("sandbox_s")) == left
            return -1
        self.open[id(made)] = made, tokens, seconds
        return id(made)

    @rule(key=reservations, part=st.floats(0, 1))
    def settle(self, key: int, part: float) -> None:
        if key in self.open:
            made, tokens, seconds = self.open.pop(key)
            used = int(tokens * part)
            made.settle(tokens=used, sandbox_s=seconds * part)
            made.settle(tokens=tokens, sandbox_s=seconds)  # only the first call counts
            self.spent_tokens += used

    @rule(key=reservations)
    def release(self, key: int) -> None:
        if key in self.open:
            self.open.pop(key)[0].release()

    @invariant()
    def nobody_has_more_than_allowed(self) -> None:
        for ledger, caps in zip(self.all, self.caps, strict=True):
            spent, held = ledger.spent, ledger.held
            assert spent.tokens + held["tokens"] <= caps["tokens"]
            assert spent.sandbox_s + held["sandbox_s"] <= caps["sandbox_s"] + 1e-6
        assert self.root.spent.tokens == self.spent_tokens
        assert self.root.held["tokens"] == sum(tokens for _, tokens, _ in self.open.values())

    def teardown(self) -> None:
        for made, _, _ in self.open.values():
            made.release()
        assert all(ledger.held["tokens"] == 0 for ledger in self.all)


Ledgers.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestLedgers = Ledgers.TestCase


@settings(max_examples=30)
@given(
    asks=st.lists(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=12), min_size=2, max_size=5),
    cap=st.integers(1, 300),
)
def test_children_on_several_threads_never_overspend_and_leave_nothing_reserved(
    asks: list[list[tuple[int, int]]], cap: int
) -> None:
    root = Ledger(Budget(tokens=cap))
    start = threading.Barrier(len(asks), timeout=BOUND_S)
    worst: list[float] = []

    def spend(wanted: list[tuple[int, int]]) -> None:
        child = root.child(0.9)
        start.wait()
        for reserve, use in wanted:
            try:
                with child.reserve(tokens=reserve) as made:
                    worst.append(root.spent.tokens)
                    made.settle(tokens=min(reserve, use))
            except BudgetExceeded:
                pass

    threads = [threading.Thread(target=spend, args=(wanted,), daemon=True) for wanted in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert max(worst, default=0) <= cap
    assert root.spent.tokens <= cap
    assert root.held["tokens"] == 0


def test_a_reservation_is_all_or_nothing_and_its_block_releases_it() -> None:
    ledger = Ledger(Budget(tokens=10, tool_calls=1))
    with pytest.raises(BudgetExceeded, match="the budget of 1 tool_calls has 1 left, and 2 are needed") as caught:
        ledger.reserve(tokens=5, tool_calls=2)
    assert (caught.value.kind, caught.value.left, ledger.left("tokens")) == ("tool_calls", 1, 10)
    with ledger.reserve(tokens=8):
        assert ledger.left("tokens") == 2
    assert (ledger.left("tokens"), ledger.spent) == (10, Spent())


def test_more_than_was_reserved_is_recorded_and_paid_by_the_next() -> None:
    ledger = Ledger(Budget(tokens=10))
    ledger.reserve(tokens=5).settle(tokens=12)
    assert (ledger.spent.tokens, ledger.left("tokens")) == (12, 0)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(tokens=1)


@pytest.mark.parametrize(
    "options", [{"steps": -1}, {"tokens": 1.5}, {"cost_usd": math.nan}, {"steps": True}, {"sandbox_s": "1"}]
)
def test_a_budget_is_checked_when_it_is_made(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="Budget"):
        Budget(**options)  # type: ignore[arg-type]


# --- runs -------------------------------------------------------------------------------------------------------------


def test_steps_of_the_budget_end_a_run(runtime: Runtime) -> None:
    result = agent_for(runtime, *[block('print "x"')] * 9, budget=Budget(steps=2)).run("Add.")
    assert (result.stop_reason, len(result.steps), result.spent.steps) == ("budget", 2, 2)


def test_what_a_run_used_is_counted_without_a_budget(runtime: Runtime) -> None:
    usage = TokenUsage(input_tokens=10, output_tokens=2, cost_usd=0.5)
    replies = [
        ModelReply(text=block('ask_tool ["get_price", "tea"]'), usage=usage),
        ModelReply(text=block("final_answer 5"), usage=usage),
    ]
    spent = agent_for(runtime, *replies).run("Add.").spent
    assert (spent.steps, spent.tokens, spent.cost_usd, spent.tool_calls) == (2, 24, 1.0, 1)
    assert 0 < spent.sandbox_s < BOUND_S


def test_tokens_are_reserved_before_the_request_and_bound_the_reply(runtime: Runtime) -> None:
    class Asked(ScriptedModel):
        limits: list[int | None]

        async def complete(self, messages: object, **options: object) -> ModelReply:
            self.limits.append(options.get("max_tokens"))  # type: ignore[arg-type]
            return await super().complete(messages, **options)  # type: ignore[arg-type]

    usage = TokenUsage(input_tokens=600, output_tokens=200)
    model = Asked([ModelReply(text=block('print "x"'), usage=usage)] * 5)
    model.limits = []
    agent = CodeAgent([], model, runtime=runtime, budget=Budget(tokens=2000), reply_tokens=500)
    result = agent.run("Add.")
    assert (result.stop_reason, result.spent.tokens) == ("budget", 1600)
    assert model.limits[0] == 500
    assert len(model.limits) == 2  # 400 are left, and the request alone takes over 600


def test_a_request_that_does_not_fit_is_never_sent(runtime: Runtime) -> None:
    model = ScriptedModel([block("final_answer 5")])
    result = CodeAgent([], model, runtime=runtime, budget=Budget(tokens=100)).run("Add.")
    assert (result.stop_reason, result.steps, model.requests) == ("budget", (), [])


def test_dollars_are_reserved_by_price_and_counted_by_the_reply(runtime: Runtime) -> None:
    usage = TokenUsage(input_tokens=1000, output_tokens=1000)
    replies = [ModelReply(text=block('print "x"'), usage=usage)] * 5
    budget = Budget(cost_usd=0.005, prices=Prices(input=1.0, output=1.0))
    result = agent_for(runtime, *replies, budget=budget).run("Add.")
    assert (result.stop_reason, len(result.steps)) == ("budget", 2)
    assert result.spent.cost_usd == pytest.approx(0.004)


def test_dollars_without_a_price_are_an_error_that_says_what_to_do(runtime: Runtime) -> None:
    with pytest.raises(AgentError, match=r"Budget\(prices=Prices"):
        agent_for(runtime, block("final_answer 5"), budget=Budget(cost_usd=1.0)).run("Add.")


def test_tool_calls_beyond_the_budget_are_refused_and_the_run_ends(runtime: Runtime) -> None:
    calls = ['ask_tool ["get_price", "tea"]'] * 3
    result = agent_for(runtime, block(*calls), block("final_answer 5"), budget=Budget(tool_calls=2)).run("Add.")
    assert (result.stop_reason, len(result.steps), result.spent.tool_calls) == ("budget", 1, 2)
    assert result.steps[0].cell is not None
    assert result.steps[0].cell.stdout.count("3.5") == 2
    assert "no tool calls are left" in result.steps[0].cell.stdout


def test_seconds_of_the_budget_are_the_deadline_of_a_cell(runtime: Runtime) -> None:
    result = agent_for(runtime, *[block("loop")] * 9, budget=Budget(sandbox_s=0.2)).run("Add.", deadline_s=BOUND_S)
    assert result.stop_reason == "budget"
    assert result.spent.sandbox_s <= 0.2 + 1e-6


def test_a_budget_of_one_run_stands_instead_of_the_agents(runtime: Runtime) -> None:
    agent = agent_for(runtime, block('print "x"'), block("final_answer 5"), budget=Budget(steps=1))
    assert agent.run("Add.").stop_reason == "budget"
    assert agent.run("Add.", budget=Budget(steps=2)).stop_reason == "final"


def test_an_abandoned_request_costs_what_it_was_estimated_to(runtime: Runtime) -> None:
    class Slow:
        name = "slow"

        async def complete(self, messages: object, **options: object) -> ModelReply:
            await anyio.sleep_forever()
            raise AssertionError

    result = CodeAgent([], Slow(), runtime=runtime, budget=Budget(tokens=10_000)).run("Add.", deadline_s=REACHED_S)
    assert result.stop_reason == "timeout"
    assert 300 < result.spent.tokens < 2000
    assert result.spent.steps == 1


# --- sub-agents -------------------------------------------------------------------------------------------------------


def test_sub_agents_draw_from_the_callers_budget_and_get_a_share_of_it(runtime: Runtime) -> None:
    worker = agent_for(runtime, *[block('print "x"')] * 9, name="worker", description="Works.")
    boss = CodeAgent(
        [],
        ScriptedModel([block('ask_tool ["worker", "work"]'), block("final_answer 1")]),
        runtime=runtime,
        managed_agents=[worker],
        budget=Budget(steps=8),
    )
    result = boss.run("Ask.")
    assert result.output == 1
    assert result.spent.steps == 1 + 4 + 1  # half of the 7 that were left, rounded up
    assert "worker gave no answer: its share of the budget was used up" in result.steps[0].observation


def test_a_run_ends_when_its_sub_agent_left_nothing(runtime: Runtime) -> None:
    worker = agent_for(runtime, *[block('print "x"')] * 9, name="worker", description="Works.")
    boss = agent_for(
        runtime,
        *[block('ask_tool ["worker", "work"]')] * 9,
        managed_agents=[worker],
        budget=Budget(steps=4),
    )
    result = boss.run("Ask.")
    assert (result.stop_reason, result.spent.steps) == ("budget", 4)


def test_sub_agents_side_by_side_never_overspend() -> None:
    """Through `ToolCallingAgent`, which calls several at once."""
    from cloche.agents.messages import ToolCallRequest
    from cloche.agents.tool_calling_agent import ToolCallingAgent

    def reply(messages: object) -> ModelReply:
        return ModelReply(text="", tool_calls=(ToolCallRequest("1", "get_price", {"item": "tea"}),))

    workers = [
        ToolCallingAgent([get_price], ScriptedModel([reply] * 50), name=f"worker{n}", description="Works.")
        for n in range(4)
    ]
    calls = tuple(ToolCallRequest(str(n), f"worker{n}", {"task": "work"}) for n in range(4))

    def asks(messages: list[Message]) -> ModelReply:
        return ModelReply(text="", tool_calls=calls)

    boss = ToolCallingAgent([], ScriptedModel([asks] * 50), managed_agents=workers, budget=Budget(steps=30))  # type: ignore[list-item]
    result = boss.run("Ask.", deadline_s=BOUND_S)
    assert result.stop_reason == "budget"
    assert result.spent.steps == 30


def test_a_call_whose_end_is_told_too_late_is_settled_with_its_step(runtime: Runtime) -> None:
    ledger = Ledger(Budget(tool_calls=5))
    agent = CodeAgent([get_price], ScriptedModel([]), runtime=runtime)
    state = Run(agent.task_spec("x", None, {}, ledger=ledger)).state
    watch = ToolWatch(state)
    price = agent.tools[0]

    def begin(call_id: int) -> object:
        watch.on_event(ToolStarted(call_id=call_id, tool="get_price", arguments="'tea'"))
        return watch.before(ToolRequest(tool=price, call_id=call_id, arguments={"item": "tea"}, context=state))

    assert begin(1) == Allow()
    assert ledger.held["tool_calls"] == 1
    watch.close()
    assert (ledger.held["tool_calls"], ledger.spent.tool_calls) == (0, 1)
    assert [record.outcome for record in state.take_records()] == ["cancelled"]
    watch.on_event(ToolFinished(call_id=1, tool="get_price", outcome="ok", duration_s=1.0))
    assert begin(2) == Deny("the step is over")
    assert (ledger.held["tool_calls"], ledger.spent.tool_calls) == (0, 1)
    assert state.take_records() == ()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whenever_a_run_is_cut_short_nothing_stays_reserved(runtime: Runtime, backend: str) -> None:
    pytest.importorskip(backend)

    class Slow:
        name = "slow"

        async def complete(self, messages: Sequence[Message], **options: object) -> ModelReply:
            await anyio.sleep(0.003)
            said = sum(message.role == "assistant" for message in messages)
            return ModelReply(text=block('ask_tool ["worker", "x"]', "loop") if said % 2 else TEA)

    def get_slowly(item: str) -> float:
        """Price of an item."""
        threading.Event().wait(0.002)
        return 1.0

    worker = CodeAgent([get_slowly], Slow(), runtime=runtime, name="worker", description="Works.", max_steps=2)
    boss = CodeAgent(
        [get_slowly], Slow(), runtime=runtime, managed_agents=[worker], limits=Limits(wall_s=0.05), max_steps=6
    )

    async def main() -> None:
        for number in range(25):
            ledger = Ledger(Budget(steps=100, tokens=200_000, tool_calls=100, sandbox_s=30.0))
            deadline_s = 0.001 + number * 0.004
            result = await Run(boss.task_spec("x", None, {"deadline_s": deadline_s}, ledger=ledger)).drive()
            assert result.stop_reason == "timeout"
            assert set(ledger.held.values()) == {0}, deadline_s
            assert result.spent == ledger.spent

    async def bounded() -> None:
        with anyio.fail_after(BOUND_S):
            await main()

    anyio.run(bounded, backend=backend)


TEA = block('ask_tool ["get_slowly", "tea"]')
