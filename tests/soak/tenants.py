"""The load of one tenant: threads that open one sandbox after another, good or hostile, and check every cell.

The rule: a good cell ends with its answer, or, when the soak has killed its worker, with `WorkerCrashed`. Nothing else
is good. The host counts by a tool how often each cell was executed, so that a second run could not stay unseen.
"""

from __future__ import annotations

import inspect
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from cloche import ClocheError, PoolExhausted, Runtime, Sandbox, WorkerCrashed

from .book import Book
from .kinds import ATTACKS, GOOD_LIMITS, HOSTILE_LIMITS, good_cell

T = TypeVar("T")
HOSTILE_SHARE = 1 / 3
CELLS = 6
"""Of one good sandbox, at most."""
TENANTS_KNOWN = "tenant" in inspect.signature(Runtime.sandbox).parameters


class Live:
    """One sandbox in use, as the killer sees it."""

    def __init__(self, box: Sandbox, *, good: bool) -> None:
        self.box = box
        self.good = good
        self.killed = False
        """Set before the signal is sent."""
        self.open = True
        self.gate = threading.Lock()
        """Held while the worker is killed, and while the sandbox is taken out of use: a pid is never used late."""


class Tenant:
    """One tenant: a name, a secret that no other may see, a thread's work."""

    def __init__(self, runtime: Runtime, name: str, book: Book, live: set[Live]) -> None:
        self.name = name
        self.secret = f"SECRET-{name}-{random.SystemRandom().getrandbits(64):016x}"
        self._runtime = runtime
        self._book = book
        self._live = live

    def work(self, rng: random.Random, stop: threading.Event, others: list[str]) -> None:
        """Until `stop`. An exception here is the soak's own fault and ends it with a finding."""
        try:
            while not stop.is_set():
                if rng.random() < HOSTILE_SHARE:
                    self._hostile(rng, others)
                else:
                    self._good(rng, stop)
        except BaseException as exc:
            self._book.find(f"{self.name}: the soak itself failed: {type(exc).__name__}: {exc}")
            raise

    # --- good -----------------------------------------------------------------------------------------------------

    def _good(self, rng: random.Random, stop: threading.Event) -> None:
        runs: Counter[int] = Counter()

        def mark(number: int) -> None:
            """Says that cell `number` runs."""
            runs[number] += 1

        self._book.count("good sandboxes")
        live = self._open([mark, double], good=True)
        try:
            total = rng.randint(1, CELLS)
            for number in range(total):
                if not self._good_cell(live, number, rng, runs):
                    break
            else:
                if live.killed:  # between two cells: the next one has to say so
                    self._good_cell(live, total, rng, runs)
        finally:
            self._close(live)
        for number, count in runs.items():
            if count != 1:
                self._book.find(f"{self.name}: cell {number} was executed {count} times")

    def _good_cell(self, live: Live, number: int, rng: random.Random, runs: Counter[int]) -> bool:
        """False when the sandbox is gone."""
        wanted = good_cell(number, self.secret, rng)
        with live.gate:  # else the killer may have set it and not yet sent the signal
            killed_before = live.killed
        self._book.count("good cells begun")
        started = time.monotonic()
        try:
            cell = self._retried(lambda: live.box.run(wanted.code))
        except WorkerCrashed as exc:
            if not live.killed:
                self._book.find(f"{self.name}: good cell lost: {exc}")
                self._book.count("good cells lost")
                return False
            self._book.count("good cells killed")
            return False
        except Exception as exc:  # noqa: BLE001  # any other end is a finding, not the end of the soak
            self._book.find(f"{self.name}: good cell ended with {type(exc).__name__}: {exc}")
            self._book.count("good cells lost")
            return False
        if cell.value != wanted.answer:
            self._book.find(f"{self.name}: wrong answer: {cell!r}")
            self._book.count("good cells wrong")
            return False
        if killed_before:
            self._book.find(f"{self.name}: a cell was answered after its worker had been killed")
        if runs[number] != 1:
            self._book.find(f"{self.name}: an answered cell was executed {runs[number]} times")
        self._book.answered(time.monotonic() - started)
        return True

    # --- hostile --------------------------------------------------------------------------------------------------

    def _hostile(self, rng: random.Random, others: list[str]) -> None:
        name = rng.choice(list(ATTACKS))
        attack = ATTACKS[name]
        self._book.count("hostile sandboxes")
        live = self._open([double], good=False)
        self._book.count("hostile cells begun")
        shown = ""
        try:
            cell = self._retried(lambda: live.box.run(attack.code))
            end = "cell" if cell.error is None else f"cell:{cell.error.type}"
            shown = f"{cell.value!r}{cell.stdout}{cell.stderr}{cell.value_repr}{cell.error}"
        except ClocheError as exc:
            end, shown = type(exc).__name__, str(exc)
        finally:
            self._close(live)
        self._book.attack_ended(name, end)
        self._book.count("hostile cells ended")
        if end not in attack.ends and not (live.killed and end == "WorkerCrashed"):
            self._book.find(f"{self.name}: attack {name!r} ended with {end}: {shown!r}")
        if any(secret in shown for secret in others):
            self._book.find(f"{self.name}: attack {name!r} saw another tenant's secret")

    # --- sandboxes ------------------------------------------------------------------------------------------------

    def _open(self, tools: list[Callable[..., object]], *, good: bool) -> Live:
        limits = GOOD_LIMITS if good else HOSTILE_LIMITS
        options: Any = {"tenant": self.name} if TENANTS_KNOWN else {}
        box = self._retried(lambda: self._runtime.sandbox(tools=tools, limits=limits, **options))
        live = Live(box, good=good)
        self._live.add(live)
        return live

    def _close(self, live: Live) -> None:
        with live.gate:
            live.open = False
        self._live.discard(live)
        live.box.close()

    def _retried(self, action: Callable[[], T]) -> T:
        """Again after `PoolExhausted`: nothing was executed then, and the error says when to come back."""
        while True:
            try:
                return action()
            except PoolExhausted as exc:
                self._book.count("refused, asked to come back")
                threading.Event().wait(min(exc.retry_after_s, 1.0))


def double(x: int) -> int:
    """Twice the number."""
    return 2 * x
