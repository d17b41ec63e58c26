"""Turns `--tools module:function` into the objects that a sandbox or an agent takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from ..runtime.errors import ConfigError


def load_tools(names: Sequence[str]) -> list[Callable[..., object]]:
    """The named tools, in order; a name may also lead to a list or tuple of tools.

    The current directory is importable, as it is for `python -m`: whoever types the command chose the module.

    Raises:
        ConfigError: no such module or function, or the module failed to import.
    """
    if names and (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    if names:
        _show_failures()
    found: list[Callable[..., object]] = []
    for name in names:
        target = _load(name)
        for tool in cast("Sequence[object]", target) if isinstance(target, (list, tuple)) else (target,):
            if not callable(tool):
                raise ConfigError(f"--tools {name!r}: it leads to type {type(tool).__name__}, which is no tool")
            found.append(tool)
    return found


def _show_failures() -> None:
    """Has what the library logs of tools that fail printed: whoever types the command has set up no logging."""
    import logging

    if logging.lastResort is not None:  # writes warnings to stderr
        logging.getLogger("cloche.tools").addHandler(logging.lastResort)


def _load(name: str) -> object:
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise ConfigError(f"--tools {name!r}: write it as module:function")
    try:
        target: object = import_module(module_name)
    except ModuleNotFoundError as exc:
        raise ConfigError(f"--tools {name!r}: there is no module named {exc.name!r} here") from exc
    except Exception as exc:  # the user's own module runs its own code at import
        raise ConfigError(f"--tools {name!r}: importing {module_name} failed: {type(exc).__name__}: {exc}") from exc
    for part in path.split("."):
        try:
            target = getattr(target, part)
        except AttributeError as exc:
            raise ConfigError(f"--tools {name!r}: {module_name} has no {path}") from exc
    return target
