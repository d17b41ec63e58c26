"""How a `Runtime` is set up: one frozen tree, checked once. `config_from_environment` is the only reader of `CLOCHE_*`.

What one sandbox may use stands in `limits.py`; here is what one host process spends on all of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from .errors import ConfigError


class RuntimeConfig(BaseModel):
    """Caps and sizes of one runtime. All fields are keyword-only; a wrong one raises `ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def __init__(self, **fields: object) -> None:
        try:
            super().__init__(**fields)
        except ValueError as exc:
            raise ConfigError(f"RuntimeConfig: {exc}") from exc

    image: Path | None = None
    """Path of the image; None: the one that came with the package, or the built one in the cache."""
    max_sandboxes: int = Field(1000, ge=1, le=100_000)
    """Sandboxes open at once, of both isolations. One more raises `PoolExhausted`."""
    warm_workers: int | None = Field(None, ge=0, le=1000)
    """Never-used workers kept ready (process isolation). None: one, from the second sandbox on."""
    max_workers: int = Field(256, ge=1, le=10_000)
    """Worker processes alive at once, warm ones included."""
    start_deadline_s: float = Field(30.0, gt=0, le=3600)
    """Seconds for a worker to come and be ready. The first use of an image on a machine compiles it before that."""
    request_deadline_s: float = Field(30.0, gt=0, le=3600)
    """Seconds for one file request."""
    close_deadline_s: float = Field(5.0, gt=0, le=3600)
    """Seconds to wait for a killed worker to be gone."""
    tool_threads: int = Field(32, ge=1, le=1000)
    """Threads for `.aio` calls of sync tools."""


def config_from_environment(environ: Mapping[str, str] = os.environ, **options: object) -> RuntimeConfig:
    """The config of the default runtime: `options`, then `CLOCHE_<FIELD>` variables, then the defaults.

    Raises:
        ConfigError: a variable or option has a value that cannot be.
    """
    found: dict[str, object] = {}
    for name in RuntimeConfig.model_fields:
        text = environ.get(f"CLOCHE_{name.upper()}", "")
        if text:
            found[name] = text
    return RuntimeConfig(**{**found, **options})
