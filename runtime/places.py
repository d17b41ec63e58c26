"""Whose the workers of a pool are, who waits for one, and who may have the last warm one.

The rule: what comes free goes to whoever has least. A place goes to the waiting tenant with the fewest workers; the
last warm worker to one that had no warm one within the last second. So one tenant's flood costs the others a cold start
at worst. The owner guards it: no method locks.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .errors import PoolExhausted
from .plain import dataclass
from .tenants import Tenant, tenant_exhausted

if TYPE_CHECKING:
    from .process_link import ProcessLink

SHARE_S = 1.0
"""A tenant takes the last warm worker once in this time at most, unless it is alone. Making one takes 30 ms."""
ALONE_AFTER_S = 60.0
"""A tenant that has leased nothing for so long does not count as there."""
RETRY_AFTER_S = 0.25

HOST = ""
"""Key of workers that are no tenant's. No tenant has an empty name."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One lease that wants a worker."""

    key: str
    tenant: Tenant | None


class Places:
    """Counts the workers of each tenant."""

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._held: Counter[str] = Counter()
        self._owner: dict[ProcessLink, str] = {}
        self._line: list[Waiter] = []
        self._leased_at: dict[str, float] = {}
        """By tenant, oldest first; forgotten after a while. So is the next."""
        self._warm_at: dict[str, float] = {}

    @property
    def held(self) -> dict[str, int]:
        """Workers by tenant, "" for those of no tenant."""
        return dict(self._held)

    def count(self, key: str, change: int) -> None:
        """One more (1) or less (-1) is being started for this tenant."""
        self._held[key] += change
        if self._held[key] <= 0:
            del self._held[key]

    def own(self, link: ProcessLink, key: str) -> None:
        """The worker is this tenant's, until `gone`."""
        self._owner[link] = key
        self.count(key, 1)

    def gone(self, link: ProcessLink) -> None:
        """The worker is dead and reaped."""
        key = self._owner.pop(link, None)
        if key is not None:
            self.count(key, -1)

    # --- the line -----------------------------------------------------------------------------------------------------

    def stand_in_line(self, tenant: Tenant | None) -> Waiter:
        waiter = Waiter(HOST if tenant is None else tenant.name, tenant)
        self._line.append(waiter)
        return waiter

    def leave_line(self, waiter: Waiter) -> bool:
        """True if somebody stands there still, who may be first now."""
        self._line.remove(waiter)
        return bool(self._line)

    def is_first(self, waiter: Waiter) -> bool:
        """Whether the next free worker is this one's: it may have one more, and nobody else who may has fewer."""
        return not self._is_full(waiter) and waiter is min(
            (other for other in self._line if not self._is_full(other)), key=lambda other: self._held[other.key]
        )

    def _is_full(self, waiter: Waiter) -> bool:
        return waiter.tenant is not None and self._held[waiter.key] >= waiter.tenant.workers

    def exhausted(self, waiter: Waiter) -> PoolExhausted:
        """The error for a wait that was in vain."""
        if waiter.tenant is not None and self._is_full(waiter):
            allowed = waiter.tenant.workers
            message = f"tenant {waiter.tenant.name!r} has {allowed} workers; close a sandbox or try again later"
            return tenant_exhausted(waiter.tenant, message, "workers", allowed)
        allowed = self._max_workers
        message = f"all {allowed} workers are in use: close a sandbox, or raise max_workers"
        return PoolExhausted(message, retry_after_s=RETRY_AFTER_S, scope="runtime", cap="max_workers", allowed=allowed)

    # --- warm workers -------------------------------------------------------------------------------------------------

    def may_take_last(self, key: str, now: float) -> bool:
        """Whether this tenant may have the last warm worker: it is alone, or had none for a while."""
        _forget(self._leased_at, now - ALONE_AFTER_S)
        _forget(self._warm_at, now - SHARE_S)
        return key not in self._warm_at or self._leased_at.keys() <= {key}

    def note_lease(self, key: str, now: float, *, warm: bool) -> None:
        """Remember who took what."""
        for known in (self._leased_at, self._warm_at) if warm else (self._leased_at,):
            known.pop(key, None)
            known[key] = now


def _forget(known: dict[str, float], before: float) -> None:
    """Drop what is too old; the oldest stands first."""
    while known:
        key = next(iter(known))
        if known[key] >= before:
            return
        del known[key]
