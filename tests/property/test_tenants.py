"""A model of a runtime with tenants: whatever is opened, run, reset, crashed or closed, no cap is passed and nothing is
left on an account."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloche import PoolExhausted, Runtime, Sandbox, SandboxClosed, TenantLimits, TimedOut, WorkerCrashed
from cloche.runtime.fake_link import FakeLink, FakeSource, answer, crash, loop_in_c, loop_in_python

CAPS = {"one": 1, "two": 2, "many": 9}
MAX_SANDBOXES = 6
SCRIPTS = {"answer": answer(1), "crash": crash(82), "loop": loop_in_python, "hang": loop_in_c}


class TenantMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.source = FakeSource()
        self.runtime = Runtime(
            sources={"process": self.source},
            max_sandboxes=MAX_SANDBOXES,
            tenants={name: TenantLimits(sandboxes=cap, running_cells=1) for name, cap in CAPS.items()},
        )
        self.boxes: list[Sandbox] = []

    def _of(self, tenant: str | None) -> int:
        return sum(box.tenant == tenant for box in self.boxes)

    def _pick(self, index: int) -> Sandbox | None:
        return self.boxes[index % len(self.boxes)] if self.boxes else None

    @rule(tenant=st.sampled_from([None, *CAPS]), script=st.sampled_from(sorted(SCRIPTS)))
    def open(self, tenant: str | None, script: str) -> None:
        self.source.scripts = (SCRIPTS[script],)
        full = len(self.boxes) >= MAX_SANDBOXES
        over = tenant is not None and self._of(tenant) >= CAPS[tenant]
        if full or over:
            with pytest.raises(PoolExhausted) as caught:
                self.runtime.sandbox(tenant=tenant)
            assert caught.value.scope == ("runtime" if full else "tenant")
        else:
            self.boxes.append(self.runtime.sandbox(tenant=tenant))

    @rule(index=st.integers(0, 50))
    def run(self, index: int) -> None:
        box = self._pick(index)
        if box is None:
            return
        with contextlib.suppress(TimedOut, WorkerCrashed, SandboxClosed, PoolExhausted):
            box.run("x", deadline_s=0.005)

    @rule(index=st.integers(0, 50))
    def crash_between_requests(self, index: int) -> None:
        if self.source.leased:
            link: FakeLink = self.source.leased[index % len(self.source.leased)]
            link.crash(82)

    @rule(index=st.integers(0, 50))
    def reset(self, index: int) -> None:
        box = self._pick(index)
        if box is not None:
            box.reset()
            assert not box.closed

    @rule(index=st.integers(0, 50), twice=st.booleans())
    def close(self, index: int, twice: bool) -> None:
        box = self._pick(index)
        if box is not None:
            self.boxes.remove(box)
            for _ in range(1 + twice):
                box.close()

    @invariant()
    def accounts_are_what_is_open(self) -> None:
        use = self.runtime.tenants()
        open_ = Counter(box.tenant for box in self.boxes if box.tenant is not None)
        assert {name: tenant.sandboxes for name, tenant in use.items()} == dict(open_)
        assert all((tenant.running_cells, tenant.waiting) == (0, 0) for tenant in use.values())
        assert self.runtime.sandboxes == len(self.boxes)

    def teardown(self) -> None:
        boxes = self.boxes
        self.runtime.close()
        assert (self.runtime.tenants(), self.runtime.sandboxes) == ({}, 0)
        for box in boxes:
            box.close()
        assert self.runtime.tenants() == {}


TenantMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
test_no_cap_of_a_tenant_is_passed_and_nothing_is_left_on_an_account = TenantMachine.TestCase
