"""Exceptions on their way into a log: their messages may hold what a guest or a model wrote.

The rule: frames and lines of a traceback are the host's own and stay as they are; every message is one escaped,
truncated line. So nobody who chooses an argument can forge a log record or speak to the terminal that shows it.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, cast

from .tool_outcome import tidy

if TYPE_CHECKING:
    from logging import Logger

_CHAIN = 8
"""Exceptions of one chain that are shown."""
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def logged(exc: BaseException) -> ExcInfo:
    """What to give to `exc_info` of a log call instead of the exception itself."""
    shown = _stand_in(exc, _CHAIN)
    return type(shown), shown, exc.__traceback__


class FailureLog:
    """Logs each kind of failure once: a guest may make the same one happen ten thousand times."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._seen: set[tuple[str, type]] = set()

    def warn(self, what: str, exc: BaseException) -> None:
        """`what` is the host's own text, and one of few."""
        if (what, type(exc)) not in self._seen:
            self._seen.add((what, type(exc)))
            self._log.warning("%s", what, exc_info=logged(exc))


def one_line(text: str) -> str:
    """The text cut to a bounded length, control characters and line ends written as escapes."""
    return tidy(text).replace("\n", "\\n").replace("\t", "\\t")


def _stand_in(exc: BaseException, left: int) -> BaseException:
    """An exception of the same name and traceback whose message is harmless, and its causes likewise."""
    kind = type(exc)
    name = one_line(kind.__qualname__)
    made: BaseException = type(name, (_Shown,), {"__module__": one_line(str(kind.__module__)), "__qualname__": name})(
        _message(exc)
    )
    made.__traceback__ = exc.__traceback__
    made.__suppress_context__ = exc.__suppress_context__
    if left > 1:
        if exc.__cause__ is not None:
            made.__cause__ = _stand_in(exc.__cause__, left - 1)
            made.__suppress_context__ = True
        elif exc.__context__ is not None and not exc.__suppress_context__:
            made.__context__ = _stand_in(exc.__context__, left - 1)
    notes: object = getattr(exc, "__notes__", None)
    if isinstance(notes, list):
        for note in cast("list[object]", notes)[:_CHAIN]:
            made.add_note(one_line(note) if isinstance(note, str) else "(no text)")
    return made


class _Shown(Exception):
    """Base of all stand-ins."""


def _message(exc: BaseException) -> str:
    try:
        return one_line(str(exc))
    except Exception:  # noqa: BLE001  # tool dispatch: a __str__ of the tool's author
        return "(its message cannot be shown)"
