"""What a source of worker processes gives back, at the end of a lease and at its own; with sockets for workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.support.fake_maker import FakeMaker

from cloche.runtime import process_source
from cloche.runtime.config import RuntimeConfig
from cloche.runtime.errors import RuntimeClosed
from cloche.runtime.limits import Limits
from cloche.runtime.pool import WorkerPool
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.process_source import ProcessSource
from cloche.runtime.watch import WorkerWatch

LIMITS = Limits()
BOUND_S = 5.0


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMaker]:
    """The one that every source makes."""
    maker = FakeMaker()

    def new_maker(_source: ProcessSource) -> FakeMaker:
        return maker

    monkeypatch.setattr(ProcessSource, "_new_maker", new_maker)
    yield maker
    maker.close()


def test_a_source_that_was_closed_starts_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller had it in hand when another thread closed the runtime."""
    made: list[FakeMaker] = []

    def new_maker(_source: ProcessSource) -> FakeMaker:
        made.append(FakeMaker())
        return made[-1]

    monkeypatch.setattr(ProcessSource, "_new_maker", new_maker)
    closed_unused, closed_prepared = ProcessSource(RuntimeConfig()), ProcessSource(RuntimeConfig())
    closed_prepared.prepare()
    for source in (closed_unused, closed_prepared):
        source.close()
        with pytest.raises(RuntimeClosed):
            source.prepare()
    assert [maker.alive for maker in made] == [False]


def raising(error: BaseException) -> Callable[..., None]:
    def step(*_given: object) -> None:
        raise error

    return step


STEPS: dict[str, tuple[object, str, BaseException]] = {
    "it is stopped while its worker says hello": (ProcessLink, "wait_hello", KeyboardInterrupt()),
    "no thread can be started for the spare": (WorkerPool, "_after_lease", RuntimeError("can't start new thread")),
    "it is stopped while the launcher caps memory": (ProcessLink, "limit", KeyboardInterrupt()),
    "it is stopped while the cgroup is capped": (process_source, "_cap", KeyboardInterrupt()),
    "no thread can be started for the watch": (WorkerWatch, "add", RuntimeError("can't start new thread")),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_lease_that_does_not_end_well_leaves_no_worker(
    name: str, maker: FakeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, step, error = STEPS[name]
    source = ProcessSource(RuntimeConfig(warm_workers=0, max_workers=1))
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, raising(error))
        with pytest.raises(type(error)):
            source.lease(LIMITS, BOUND_S)
    assert (len(maker.made), maker.living) == (1, 0)
    source.lease(LIMITS, 0.5)  # its place is free
    source.close()
