"""Modules and loggers that are imported when they are first used, not when the module that names them is.

The rule: for the standard library's heavy ones only (`inspect` and `logging` cost a process start 10 ms each), and only
where most processes never need them. Type checkers see the plain import, under `if TYPE_CHECKING`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from logging import Logger


class _Lazy:
    """Stands for what `make` gives."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._make(), name)
        self.__dict__[name] = value  # the next use does not come here
        return value


def module(name: str) -> Any:
    """The module of this name, for the reading of its attributes."""
    return _Lazy(lambda: import_module(name))


def logger(name: str) -> Logger:
    """The logger of this name.

    What it says goes nowhere until the application sets up logging: without a handler of ours `logging` would print
    warnings to stderr. All loggers of the package come from here, so the handler is there before the first record.
    """
    return cast("Logger", _Lazy(lambda: _logger(name)))


def _logger(name: str) -> Logger:
    import logging

    root = logging.getLogger("cloche")
    if not any(isinstance(entry, logging.NullHandler) for entry in root.handlers):
        root.addHandler(logging.NullHandler())
    return logging.getLogger(name)
