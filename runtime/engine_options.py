"""Which engine and isolation there are, and `engine_options`: what only one engine has (`js_ffi`, of "deno").

The rule: an option that an engine does not have is an error, never ignored, and a worker made with one set of options
is never given to a sandbox with another.
"""

from __future__ import annotations

from collections.abc import Mapping

from .config import ENGINES
from .errors import ConfigError
from .plain import dataclass

ISOLATIONS = ("process", "thread")
JS_FFI = "js_ffi"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The options of one sandbox, checked."""

    js_ffi: bool = False
    """The full Pyodide with its modules `js` and `pyodide`: JavaScript is reachable (docs/engines.md)."""


def checked_engine_options(engine: str, options: Mapping[str, object] | None) -> EngineOptions:
    """The options as one record; all defaults for None and for an empty mapping.

    Raises:
        ConfigError: there is no such option, this engine has none, or a value is of the wrong type.
    """
    if options is None:
        return _NONE
    if not isinstance(options, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # users have no type checker
        raise ConfigError(f'engine_options is a mapping such as {{"{JS_FFI}": True}}')
    unknown = [name for name in options if name != JS_FFI]
    if unknown:
        raise ConfigError(f'unknown engine option {unknown[0]!r:.60}; there is "{JS_FFI}", of engine="deno"')
    if options and engine != "deno":
        raise ConfigError(f'engine="{engine:.60}" has no options; "{JS_FFI}" is one of engine="deno"')
    js_ffi = options.get(JS_FFI, False)
    if not isinstance(js_ffi, bool):
        raise ConfigError(f"engine option {JS_FFI} is True or False, not {js_ffi!r:.60}")
    return EngineOptions(js_ffi)


def check_options(engine: str | None, isolation: str) -> None:
    """Raises ConfigError for an engine (None: to be the runtime's) or isolation that does not exist."""
    if engine is not None and engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}; there are {' and '.join(map(repr, ENGINES))}")
    if engine == "deno" and isolation == "thread":
        raise ConfigError('engine="deno" is a process of its own; isolation="thread" is for engine="wasmtime"')
    if isolation not in ISOLATIONS:
        raise ConfigError(f"unknown isolation {isolation!r}; there are {' and '.join(map(repr, ISOLATIONS))}")


_NONE = EngineOptions()
