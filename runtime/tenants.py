"""What each tenant of a runtime may have at once, and what it has now.

The rule: a tenant is a name that the host chose and nothing else; its caps count over all its sandboxes, also where
different parts of the host opened them. An account exists while something is on it, so names cost nothing.

`None`, no tenant, is the host itself: only the caps of the runtime hold for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from .bounded import Bounded, bounded
from .errors import ConfigError, PoolExhausted
from .lanes import Alarm, Lane
from .pace import Pace
from .plain import dataclass, field, replace
from .servers import ServerThreads
from .tool_threads import BoundedThreads

NAME_CHARACTERS = 200
SHARE = 4
"""A tenant may have one in this many of what the runtime may have, if nothing else was said: room for others stays."""
RETRY_AFTER_S = 1.0
"""Hint for a tenant at a cap: sandboxes and cells last for seconds, not for milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits(Bounded):
    """Caps of one tenant. All fields are keyword-only; a wrong one raises `ConfigError`."""

    sandboxes: int | None = bounded(None, ge=1, le=100_000)
    """Sandboxes open at once. None: a quarter of `max_sandboxes` or of `max_workers`, the less of them, at least 1."""
    workers: int | None = bounded(None, ge=1, le=10_000)
    """Worker processes alive at once, those that are being started or ended included. None: as many as sandboxes."""
    running_cells: int | None = bounded(None, ge=1, le=10_000)
    """Cells that run in their guests at once, over all sandboxes. A cell does not count while the host works for it (a
    tool call, a timer). As many sandboxes may be starting at once; beside other tenants, who starts many does so at a
    pace: half a dozen at once, then a quarter of the time. None: one less than the cores, at least 1."""
    wait_s: float = bounded(10.0, ge=0, le=3600)
    """Seconds that a cell, or the start of a sandbox, waits for its turn before it is refused. Counts in `wall_s`."""
    tool_threads: int = bounded(8, ge=1, le=1000)
    """Threads for `.aio` calls of sync tools, over all sandboxes."""

    def __post_init__(self) -> None:
        self.check()


@dataclass(frozen=True, slots=True)
class TenantUse:
    """What one tenant has at this moment."""

    sandboxes: int
    """Open ones."""
    running_cells: int
    waiting: int
    """Cells and starts that wait for their turn."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant's name and its caps, with the defaults worked out."""

    name: str
    sandboxes: int
    workers: int
    running_cells: int
    wait_s: float
    tool_threads: int
    presses: Callable[[], bool] = field(default=lambda: False, compare=False)
    """Whether it begins more than its share for long (pace.py): its new workers step back from their birth."""


class Account:
    """What a tenant has now. `sandboxes` is guarded by whoever owns the account, the rest guards itself."""

    def __init__(self, tenant: Tenant, servers: ServerThreads, alone: Callable[[], bool], alarm: Alarm) -> None:
        """
        Args:
            alone: whether nobody else has a sandbox open; takes no lock.
            alarm: ends a pause of the starts.
        """
        # Nothing in here leads back to the account: one that is over is gone at once, not at the next collection.
        pace = Pace(tenant.running_cells, alone)
        busy = partial(_busy, tenant)
        self.tenant = replace(tenant, presses=lambda: pace.presses(time.monotonic()))
        self.sandboxes = 0
        self.cells = Lane(tenant.running_cells, patience_s=tenant.wait_s, refusal=busy)
        """Cells that run in a guest."""
        self.starts = Lane(tenant.running_cells, patience_s=tenant.wait_s, refusal=busy, pace=pace, alarm=alarm)
        """Sandboxes that get their worker. Apart from cells, so that a long one does not keep others from opening; at a
        pace, as a start is work of the host that no limit of a guest counts."""
        self.tool_threads = BoundedThreads(servers, tenant.tool_threads)

    @property
    def empty(self) -> bool:
        """Nothing is on it: a new one would be the same."""
        return self.sandboxes == 0 and self.tool_threads.running == 0

    def use(self) -> TenantUse:
        return TenantUse(self.sandboxes, self.cells.held, self.cells.waiting + self.starts.waiting)

    def check_room(self) -> None:
        """Raises PoolExhausted where one more sandbox would be too many."""
        allowed = self.tenant.sandboxes
        if self.sandboxes >= allowed:
            message = f"tenant {self.tenant.name!r} has {allowed} sandboxes open; close one or try again later"
            raise tenant_exhausted(self.tenant, message, "sandboxes", allowed)


def _busy(tenant: Tenant) -> PoolExhausted:
    """The error for a turn that did not come."""
    allowed = tenant.running_cells
    message = (
        f"tenant {tenant.name!r} may run {allowed} at once and its turn did not come within "
        f"{tenant.wait_s:g} s or before the deadline; nothing of it ran: try again later"
    )
    return tenant_exhausted(tenant, message, "running_cells", allowed)


class Accounts:
    """The accounts of one runtime. The owner guards it: no method locks."""

    def __init__(self, tenants: Tenants, servers: ServerThreads, *, all_open: Callable[[], int], alarm: Alarm) -> None:
        """
        Args:
            all_open: sandboxes that are open, of all tenants and of none; takes no lock.
            alarm: for each `Account`.
        """
        self._tenants = tenants
        self._servers = servers
        self._all_open = all_open
        self._alarm = alarm
        self._accounts: dict[str, Account] = {}

    def enter(self, name: str) -> Account:
        """Count one more sandbox.

        Raises:
            PoolExhausted: the tenant has as many as it may.
        """
        account = self._accounts.get(name)
        if account is None:
            account = Account(self._tenants.named(name), self._servers, partial(self._is_alone, name), self._alarm)
        account.check_room()
        account.sandboxes += 1
        self._accounts[name] = account
        return account

    def leave(self, account: Account) -> None:
        """Count one less. An account stays while its tools still run: leaving and coming back must not forget them."""
        account.sandboxes -= 1
        if account.sandboxes == 0:
            for name in [name for name, other in self._accounts.items() if other.empty]:
                del self._accounts[name]

    def _is_alone(self, name: str) -> bool:
        """Whether all open sandboxes are this tenant's. The one method that may be called without the owner's guard."""
        account = self._accounts.get(name)
        return account is not None and account.sandboxes >= self._all_open()

    def use(self) -> dict[str, TenantUse]:
        """What each tenant has now; tenants without anything are not there."""
        return {name: account.use() for name, account in self._accounts.items() if not account.empty}


class Tenants:
    """The caps of every possible tenant. Frozen once made."""

    def __init__(self, limits: TenantLimits, own: Mapping[str, TenantLimits], *, most: int) -> None:
        """
        Args:
            limits: of tenants that have none of their own.
            own: limits of single tenants, which replace those.
            most: sandboxes or workers that the runtime may have, whichever is less.
        """
        self._limits = limits
        self._own = dict(own)
        self._share = max(1, most // SHARE)

    def named(self, name: str) -> Tenant:
        """The tenant of this name, which was checked."""
        limits = self._own.get(name, self._limits)
        sandboxes = self._share if limits.sandboxes is None else limits.sandboxes
        return Tenant(
            name=name,
            sandboxes=sandboxes,
            workers=sandboxes if limits.workers is None else limits.workers,
            running_cells=default_running_cells() if limits.running_cells is None else limits.running_cells,
            wait_s=limits.wait_s,
            tool_threads=limits.tool_threads,
        )


def checked_tenant(name: object) -> str:
    """The name, which is compared code point by code point: two spellings are two tenants.

    Raises:
        ConfigError: not text, empty, longer than 200 characters, or with characters that cannot be shown in a log.
    """
    if not isinstance(name, str):
        raise ConfigError(f"a tenant is a name, not {type(name).__name__}")
    text = str.__str__(name)  # a subclass may compare as it likes
    if not 0 < len(text) <= NAME_CHARACTERS:
        raise ConfigError(f"the name of a tenant has 1 to {NAME_CHARACTERS} characters, not {len(text)}")
    if not text.isprintable():
        raise ConfigError(f"the name of a tenant has characters that cannot be shown: {ascii(text):.100}")
    return text


def checked_own(own: object) -> dict[str, TenantLimits]:
    """A copy of limits by tenant. Raises ConfigError for what is none."""
    if not isinstance(own, Mapping):
        raise ConfigError(f"tenants are limits by name, not {type(own).__name__}")
    found = {checked_tenant(name): limits for name, limits in cast("Mapping[object, object]", own).items()}
    for name, limits in found.items():
        if not isinstance(limits, TenantLimits):
            raise ConfigError(f"the limits of tenant {name!r} are TenantLimits, not {type(limits).__name__}")
    return cast("dict[str, TenantLimits]", found)


def default_running_cells() -> int:
    """One less than the cores that this process may use, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def tenant_exhausted(tenant: Tenant, message: str, cap: str, allowed: int) -> PoolExhausted:
    """The error for a cap of a tenant."""
    return PoolExhausted(
        message, retry_after_s=RETRY_AFTER_S, scope="tenant", cap=cap, allowed=allowed, tenant=tenant.name
    )
