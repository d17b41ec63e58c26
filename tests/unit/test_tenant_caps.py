"""Who may be a tenant, what its caps are, and how many sandboxes it may have; with scripted workers."""

from __future__ import annotations

# pyright: reportDeprecated=false, reportPossiblyUnboundVariable=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownParameterType=false, reportPrivateUsage=false
# looks into accounts
import os
import pickle  # noqa: TID251  # errors travel between processes of the host

import pytest
from tests.support.background import InBackground
from tests.support.tenants import runtime_of

from cloche import (
    ConfigError,
    PoolExhausted,
    Runtime,
    RuntimeConfig,
    Sandbox,
    SandboxClosed,
    TenantLimits,
    TenantUse,
    TimedOut,
)
from cloche.runtime.config import config_from_environment, make_config
from cloche.runtime.fake_link import FakeSource, loop_in_c
from cloche.runtime.tenants import checked_tenant, default_running_cells

# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["acme", "a" * 200, "7", "Süd GmbH", "a/b:c", "../etc", "%s{0}", "租户"])
def test_a_printable_text_is_a_tenant(name: str) -> None:
    assert checked_tenant(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "1 to 200 characters, not 0"),
        ("a" * 201, "not 201"),
        ("a\nb", "cannot be shown"),
        ("\x1b[2J", "cannot be shown"),
        ("a\0", "cannot be shown"),
        ("\ud800", "cannot be shown"),
        ("safe\u202etxt", "cannot be shown"),
        (b"acme", "a name, not bytes"),
        (7, "a name, not int"),
        (True, "a name, not bool"),
        (["acme"], "a name, not list"),
    ],
)
def test_anything_else_is_refused_before_a_worker_is_asked_for(name: object, why: str) -> None:
    source = FakeSource()
    with runtime_of(source) as runtime:
        with pytest.raises(ConfigError, match=why) as caught:
            runtime.sandbox(tenant=name)  # type: ignore[arg-type]  # the test
        assert str(caught.value).isprintable()
        assert (source.leased, runtime.sandboxes, runtime.tenants()) == ([], 0, {})


def test_a_text_that_lies_about_itself_is_taken_for_what_it_says() -> None:
    class Liar(str):
        def __eq__(self, other: object) -> bool:
            return False

        def __hash__(self) -> int:
            return id(self)

        def __len__(self) -> int:
            return 1

    with runtime_of(FakeSource(), TenantLimits(sandboxes=1)) as runtime, runtime.sandbox(tenant=Liar("acme")) as box:
        assert type(box.tenant) is str
        with pytest.raises(PoolExhausted):
            runtime.sandbox(tenant=Liar("acme"))


def test_a_tenant_needs_a_process() -> None:
    with Runtime(sources={"thread": FakeSource()}) as runtime, pytest.raises(ConfigError, match="a process each"):
        runtime.sandbox(tenant="acme", isolation="thread")


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_tenant_may_have_a_quarter_of_the_runtime_if_nothing_else_was_said() -> None:
    tenant = RuntimeConfig(max_sandboxes=1000, max_workers=256).caps().named("acme")
    assert (tenant.sandboxes, tenant.workers, tenant.running_cells) == (64, 64, default_running_cells())
    assert RuntimeConfig(max_sandboxes=10).caps().named("acme").sandboxes == 2
    assert RuntimeConfig(max_workers=1).caps().named("acme").sandboxes == 1


@pytest.mark.parametrize(("cores", "cells"), [(1, 1), (2, 1), (3, 2), (64, 63)])
def test_one_core_is_left_to_the_others(cores: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_running_cells() == cells


def test_a_tenant_can_have_caps_of_its_own() -> None:
    own = {"big": TenantLimits(sandboxes=3, running_cells=7)}
    caps = RuntimeConfig(tenant_limits=TenantLimits(sandboxes=1), tenants=own).caps()
    own.clear()
    assert (caps.named("big").sandboxes, caps.named("big").running_cells) == (3, 7)
    assert caps.named("small").sandboxes == 1


@pytest.mark.parametrize(
    "options",
    [
        {"tenant_limits": {"sandboxes": 1}},
        {"tenants": ["acme"]},
        {"tenants": {"": TenantLimits()}},
        {"tenants": {"acme": 3}},
        {"tenants": {7: TenantLimits()}},
    ],
)
def test_settings_of_tenants_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        make_config(options)


@pytest.mark.parametrize("wrong", [{"sandboxes": 0}, {"running_cells": 0}, {"wait_s": -1}, {"workers": 1.5}])
def test_caps_have_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"TenantLimits.{next(iter(wrong))}"):
        TenantLimits(**wrong)


def test_the_environment_sets_the_caps_of_tenants() -> None:
    config = config_from_environment({"CLOCHE_TENANT_SANDBOXES": "5", "CLOCHE_TENANT_WAIT_S": "0.5"})
    assert config.tenant_limits == TenantLimits(sandboxes=5, wait_s=0.5)


def test_a_config_with_tenants_can_still_be_hashed_and_compared() -> None:
    first, second = (RuntimeConfig(tenants={"acme": TenantLimits(sandboxes=n)}) for n in (1, 2))
    assert hash(first) == hash(second)
    assert first != second


# --- sandboxes --------------------------------------------------------------------------------------------------------


def test_one_sandbox_too_many_says_whose_cap_it_is_and_when_to_come_again() -> None:
    with runtime_of(FakeSource(), TenantLimits(sandboxes=2)) as runtime:
        boxes = [runtime.sandbox(tenant="acme") for _ in range(2)]
        with pytest.raises(PoolExhausted, match="tenant 'acme' has 2 sandboxes open") as caught:
            runtime.sandbox(tenant="acme")
        error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own
        assert (error.scope, error.cap, error.allowed, error.tenant) == ("tenant", "sandboxes", 2, "acme")
        assert error.retry_after_s > 0
        with runtime.sandbox(tenant="other"), runtime.sandbox():
            pass
        boxes.pop().close()
        runtime.sandbox(tenant="acme").close()
        boxes.pop().close()
        assert runtime.tenants() == {}


def test_a_full_runtime_says_that_it_is_the_runtime() -> None:
    with runtime_of(FakeSource(), TenantLimits(sandboxes=5), max_sandboxes=1) as runtime, runtime.sandbox(tenant="a"):
        with pytest.raises(PoolExhausted) as caught:
            runtime.sandbox(tenant="b")
        error = caught.value
        assert (error.scope, error.cap, error.allowed, error.tenant) == ("runtime", "max_sandboxes", 1, None)
        assert list(runtime.tenants()) == ["a"]


def test_a_lost_sandbox_counts_until_it_is_closed_and_reset_does_not_count_twice() -> None:
    source = FakeSource(loop_in_c)
    with runtime_of(source, TenantLimits(sandboxes=1, running_cells=1)) as runtime:
        box = runtime.sandbox(tenant="acme")
        with pytest.raises(TimedOut):
            box.run("x", deadline_s=0.01)
        with pytest.raises(PoolExhausted):
            runtime.sandbox(tenant="acme")
        for _ in range(3):
            box.reset()
        assert runtime.tenants() == {"acme": TenantUse(1, 0, 0)}
        box.close()
        box.close()
        assert runtime.tenants() == {}


def test_a_start_that_fails_leaves_nothing_on_the_account() -> None:
    class NoWorkers(FakeSource):
        def lease(self, *_: object) -> object:  # type: ignore[override]  # never returns
            raise PoolExhausted("no worker", retry_after_s=1)

    with runtime_of(NoWorkers(), TenantLimits(sandboxes=1)) as runtime:
        for _ in range(3):
            with pytest.raises(PoolExhausted, match="no worker"):
                runtime.sandbox(tenant="acme")
        assert (runtime.sandboxes, runtime.tenants()) == (0, {})


def test_a_sandbox_that_is_closed_while_it_is_admitted_leaves_nothing_on_the_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with runtime_of(FakeSource()) as runtime:
        core = runtime.core
        real = core.admit

        def admit_late(sandbox: Sandbox, tenant: str | None = None) -> object:
            sandbox.close()
            return real(sandbox, tenant)

        monkeypatch.setattr(core, "admit", admit_late)
        with pytest.raises(SandboxClosed):
            runtime.sandbox(tenant="acme")
        assert (runtime.sandboxes, runtime.tenants()) == (0, {})


def test_many_threads_that_open_at_once_never_get_more_than_the_cap() -> None:
    got: list[Sandbox] = []
    refused: list[PoolExhausted] = []
    with runtime_of(FakeSource(), TenantLimits(sandboxes=5, running_cells=2)) as runtime:

        def ask() -> None:
            try:
                got.append(runtime.sandbox(tenant="acme"))
            except PoolExhausted as exc:
                refused.append(exc)

        for thread in [InBackground(ask) for _ in range(40)]:
            thread.join()
        assert (len(got), len(refused)) == (5, 35)
        assert {error.cap for error in refused} == {"sandboxes"}
