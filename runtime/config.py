"""How a `Runtime` is set up: one frozen tree, checked once. `config_from_environment` is the only reader of `CLOCHE_*`.

What one sandbox may use stands in `limits.py`; here is what one host process spends on all of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from .bounded import Bounded, bounded
from .errors import ConfigError
from .plain import dataclass, field, fields
from .policy import Policy
from .tenants import TenantLimits, Tenants, checked_own


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig(Bounded):
    """Caps and sizes of one runtime. All fields are keyword-only; a wrong one raises `ConfigError`."""

    image: Path | None = None
    """Path of the image; None: the one that came with the package, or the built one in the cache."""
    engine: str = "wasmtime"
    """Of sandboxes that name none: "wasmtime" or "deno" (docs/engines.md)."""
    max_sandboxes: int = bounded(1000, ge=1, le=100_000)
    """Sandboxes open at once, of both isolations. One more raises `PoolExhausted`."""
    warm_workers: int | None = bounded(None, ge=0, le=1000)
    """Never-used workers kept ready, of each isolation that is used. None: one, from the second sandbox on."""
    max_workers: int = bounded(256, ge=1, le=10_000)
    """Worker processes alive at once, warm ones included."""
    start_deadline_s: float = bounded(30.0, gt=0, le=3600)
    """Seconds for a worker to come and be ready. The first use of an image on a machine compiles it before that."""
    request_deadline_s: float = bounded(30.0, gt=0, le=3600)
    """Seconds for one file request."""
    close_deadline_s: float = bounded(5.0, gt=0, le=3600)
    """Seconds to wait for a killed worker to be gone."""
    tool_threads: int = bounded(32, ge=1, le=1000)
    """Threads for `.aio` calls of sync tools."""
    cgroup: Path | None = None
    """A cgroup folder that is the host's to divide (v2, or the memory hierarchy of v1): each worker gets a child with a
    memory cap. None: one that systemd delegated to this process, if there is such a one."""
    policy: Policy = Policy()
    """What every sandbox must have, or it does not start."""
    tenant_limits: TenantLimits = TenantLimits()
    """Caps of each tenant. A sandbox without `tenant=` is the host's own, and only the caps above hold for it."""
    tenants: Mapping[str, TenantLimits] = field(default_factory=dict[str, TenantLimits], hash=False)
    """Caps of single tenants by name; they replace `tenant_limits` as a whole. Copied."""
    busy_nice: int = bounded(10, ge=0, le=19)
    """What a worker's niceness becomes when it burns CPU for long, so that others go first. 0: left alone."""

    def __post_init__(self) -> None:
        self.check()
        if not isinstance(cast("object", self.policy), Policy):
            raise ConfigError("RuntimeConfig: policy is a Policy")
        if self.engine not in ENGINES:
            raise ConfigError(f"RuntimeConfig: engine is one of {', '.join(ENGINES)}, not {self.engine!r:.60}")
        if not isinstance(cast("object", self.tenant_limits), TenantLimits):
            raise ConfigError("RuntimeConfig: tenant_limits is a TenantLimits")
        object.__setattr__(self, "tenants", checked_own(self.tenants))
        for name in _PATHS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))

    def caps(self) -> Tenants:
        """The caps of each tenant, with the defaults worked out."""
        return Tenants(self.tenant_limits, self.tenants, most=min(self.max_sandboxes, self.max_workers))


_PATHS = ("image", "cgroup")
_TEXTS = (*_PATHS, "engine")
ENGINES = ("wasmtime", "deno")
_NOT_ONE_VALUE = ("policy", "tenant_limits", "tenants")


def config_from_environment(environ: Mapping[str, str] = os.environ, **options: object) -> RuntimeConfig:
    """The config of the default runtime: `options`, then `CLOCHE_<FIELD>` variables, then the defaults.

    `CLOCHE_REQUIRE_WALLS` names walls with commas between them. `CLOCHE_TENANT_<FIELD>` is a field of `tenant_limits`.

    Raises:
        ConfigError: a variable or option has a value that cannot be.
    """
    found: dict[str, object] = {}
    for one in fields(RuntimeConfig):
        text = environ.get(f"CLOCHE_{one.name.upper()}", "")
        if text and one.name not in _NOT_ONE_VALUE:
            found[one.name] = text if one.name in _TEXTS else _number(f"CLOCHE_{one.name.upper()}", text)
    if walls := environ.get("CLOCHE_REQUIRE_WALLS", ""):
        found["policy"] = Policy(require_walls={name.strip() for name in walls.split(",")})
    caps = {
        one.name: _number(name, text)
        for one in fields(TenantLimits)
        if (text := environ.get(name := f"CLOCHE_TENANT_{one.name.upper()}", ""))
    }
    if caps:
        found["tenant_limits"] = TenantLimits(**caps)  # type: ignore[arg-type]  # `check` looks at each
    return make_config({**found, **options})


def make_config(options: Mapping[str, object]) -> RuntimeConfig:
    """The config with these fields. Raises ConfigError for a field that does not exist or has a wrong value."""
    unknown = options.keys() - {one.name for one in fields(RuntimeConfig)}
    if unknown:
        raise ConfigError(f"RuntimeConfig has no field {sorted(unknown)[0]!r}")
    return RuntimeConfig(**options)  # type: ignore[arg-type]  # `check` looks at each


def _number(name: str, text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is a number, not {text!r:.60}") from None
