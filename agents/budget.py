"""What a run may spend, and the ledger that holds it: reserve first, then spend.

The rule: what is reserved and what is spent never add up to more than a cap, at any level of a tree of runs. A
sub-agent draws from its own share and from every ledger above it at once, under one lock, so children that run side by
side can not overspend together. What was reserved and not spent goes back.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, cast, get_args

from ..runtime.errors import ConfigError
from .errors import BudgetExceeded
from .models.prices import Prices as Prices

if TYPE_CHECKING:
    from typing import Self

Kind = Literal["steps", "tokens", "cost_usd", "tool_calls", "sandbox_s"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_WHOLE: Final = frozenset({"steps", "tokens", "tool_calls"})
_SLACK: Final = 1e-9
"""Sums of floats may miss a cap by a rounding error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Caps of one run, its sub-agents included. None: no cap. A cap that is reached ends the run: `budget`."""

    steps: int | None = None
    """Replies of models; unlike `max_steps` it counts those of sub-agents, plans and summaries too."""
    tokens: int | None = None
    """Tokens of requests and replies together."""
    cost_usd: float | None = None
    """US dollars. Needs a model that says what its replies cost (`usage.cost_usd`), or `prices`."""
    tool_calls: int | None = None
    """Calls of tools, `final_answer` not counted. One more is refused to the code, and the run ends after that cell."""
    sandbox_s: float | None = None
    """Seconds that cells run, their tools included: a cell's deadline is what is left."""
    prices: Prices | None = None
    """For models that do not say what a reply costs."""

    def __post_init__(self) -> None:
        for kind in KINDS:
            value: object = getattr(self, kind)
            kinds = (int,) if kind in _WHOLE else (int, float)
            good = value is None or (type(value) in kinds and math.isfinite(cast("float", value)))
            if not good or (value is not None and cast("float", value) < 0):
                raise ConfigError(f"Budget: {kind} is a number from 0 or None, not {value!r:.100}")

    def caps(self) -> dict[Kind, float]:
        """The caps that are set."""
        return {kind: value for kind in KINDS if (value := getattr(self, kind)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run used, its sub-agents included."""

    steps: int = 0
    tokens: int = 0
    """As counted by the endpoints; where one did not count, an estimate."""
    cost_usd: float = 0.0
    """As far as models or `prices` said."""
    tool_calls: int = 0
    sandbox_s: float = 0.0
    """Seconds that cells ran. While a cell waits for a sub-agent, both count: two sandboxes are held."""


class Reservation:
    """Part of a budget that nobody else can have. Settle it once; the end of a `with` block releases it."""

    def __init__(self, settle: Callable[[Mapping[Kind, float]], None], amounts: Mapping[Kind, float]) -> None:
        self._settle: Callable[[Mapping[Kind, float]], None] | None = settle
        self.amounts: Final = amounts
        """What is reserved."""

    def settle(self, **actual: float) -> None:
        """Spend what was used and give back the rest. Only the first call counts.

        More than was reserved is recorded as it is: an estimate was too low, and the next reservation pays for it.
        """
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(cast("Mapping[Kind, float]", actual))

    def release(self) -> None:
        """Give all of it back."""
        self.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Ledger:
    """What is left of a budget. Safe to use from any thread."""

    def __init__(self, budget: Budget | None = None, *, parent: Ledger | None = None) -> None:
        """A ledger; with a parent it also draws from that one."""
        budget = budget or Budget()
        self._parent = parent
        self._lock: threading.Lock = threading.Lock() if parent is None else parent._lock
        self._caps = budget.caps()
        self._spent: dict[Kind, float] = dict.fromkeys(KINDS, 0)
        self._held: dict[Kind, float] = dict.fromkeys(KINDS, 0)
        self.prices: Final[Prices | None] = budget.prices or (parent.prices if parent is not None else None)

    def left(self, kind: Kind) -> float:
        """What could be reserved now; infinite without a cap."""
        with self._lock:
            return min(ledger._left(kind) for ledger in self._line())

    @property
    def spent(self) -> Spent:
        """What was spent by now; reservations are not in it."""
        with self._lock:
            found = dict(self._spent)
        return Spent(**{kind: int(n) if kind in _WHOLE else float(n) for kind, n in found.items()})  # type: ignore[arg-type]

    @property
    def held(self) -> dict[Kind, float]:
        """What is reserved and neither spent nor released."""
        with self._lock:
            return dict(self._held)

    def reserve(self, **amounts: float) -> Reservation:
        """Take these amounts out of what is left, here and in every ledger above; all of them or none.

        Raises:
            BudgetExceeded: a cap does not allow it.
        """
        wanted = cast("dict[Kind, float]", amounts)
        line = self._line()
        with self._lock:
            for kind, amount in wanted.items():
                for ledger in line:
                    ledger._check(kind, amount)
            for kind, amount in wanted.items():
                for ledger in line:
                    ledger._held[kind] += amount
        return Reservation(lambda actual: self._settle(wanted, actual), wanted)

    def spend(self, **amounts: float) -> None:
        """Reserve and spend at once.

        Raises:
            BudgetExceeded: a cap does not allow it.
        """
        self.reserve(**amounts).settle(**amounts)

    def child(self, share: float, own: Budget | None = None) -> Ledger:
        """A ledger for a sub-agent: at most that share of what is left here now, and at most its `own` budget."""
        own = own or Budget()
        caps: dict[str, float] = {}
        for kind in KINDS:
            left = self.left(kind)
            cap: float | None = getattr(own, kind)
            if not math.isinf(left):
                part = left * share
                if kind in _WHOLE:
                    part = math.ceil(part - _SLACK)
                cap = part if cap is None else min(cap, part)
            if cap is not None:
                caps[kind] = cap
        return Ledger(Budget(**caps, prices=own.prices), parent=self)  # type: ignore[arg-type]  # whole ones are

    def _line(self) -> list[Ledger]:
        """This ledger and those above it."""
        line: list[Ledger] = [self]
        while line[-1]._parent is not None:
            line.append(line[-1]._parent)
        return line

    def _left(self, kind: Kind) -> float:
        return max(0.0, self._caps.get(kind, math.inf) - self._spent[kind] - self._held[kind])

    def _check(self, kind: Kind, amount: float) -> None:
        if not amount >= 0:
            raise ValueError(f"{kind}: a reservation is a number from 0, not {amount!r}")
        left = self._left(kind)
        exhausted = left <= 0 and amount > 0
        if exhausted or amount > left + _SLACK:
            raise BudgetExceeded(kind, needed=amount, left=left, allowed=self._caps[kind])

    def _settle(self, reserved: Mapping[Kind, float], actual: Mapping[Kind, float]) -> None:
        line = self._line()
        with self._lock:
            for kind, amount in reserved.items():
                for ledger in line:
                    held = ledger._held[kind] - amount
                    ledger._held[kind] = held if held > _SLACK else 0
            for kind, amount in actual.items():
                for ledger in line:
                    ledger._spent[kind] += amount


def add_spent(one: Spent, other: Spent) -> Spent:
    """Both together."""
    return Spent(**{field.name: getattr(one, field.name) + getattr(other, field.name) for field in fields(Spent)})
