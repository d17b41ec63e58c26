"""An exception of the user's code as bounded text.

Rule: whatever the exception does (a `__str__` that raises, a chain without end, a million sub-exceptions), `describe`
returns: first the standard library renders it, then a plain rendering of our own, then a constant. Frames of this
package are left out, so a traceback starts at the cell.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from types import TracebackType

from . import missing
from .frames import Failure

MAX_TYPE = 256
MAX_MESSAGE = 16_384
MAX_TRACEBACK = 32_768
_MAX_CHAIN = 30
"""Exceptions that one rendering follows through causes, contexts and groups."""
_MAX_FRAMES = 40
_CUT = "\n[... cut ...]\n"
_STOPPED = "<exception str() was interrupted>"
_type_name = type.__dict__["__name__"].__get__
_Rendered = traceback.TracebackException
_SystemExit, _SyntaxError = SystemExit, SyntaxError
_Group: type[BaseException] = BaseExceptionGroup


def clean(text: str, limit: int) -> str:
    """At most `limit` characters, head and tail kept; lone surrogates become escapes."""
    if len(text) > limit:
        head = (limit - len(_CUT)) // 2
        text = text[:head] + _CUT + text[len(text) - (limit - len(_CUT) - head) :]
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return clean(text.encode("utf-8", "backslashreplace").decode("utf-8"), limit)
    return text


def describe(exc: BaseException, cell: str) -> Failure:
    """The exception as the fields of `GuestError`. `cell` is the file name of the running cell."""
    kind = type(exc)
    name = clean(str(_type_name(kind)), MAX_TYPE)
    message = clean(_message(exc), MAX_MESSAGE)
    try:
        text = _standard(exc) if message != _STOPPED else _plain(exc, name, message)
    except BaseException:  # its own code runs in there, and may be out of memory, stack or time
        text = _plain(exc, name, message)
    return Failure(name, message, clean(text, MAX_TRACEBACK), _line(exc, cell))


def last_resort(exc: BaseException) -> Failure:
    """When even `describe` failed: no code of the user runs here."""
    return Failure(clean(str(_type_name(type(exc))), MAX_TYPE), "(the error could not be shown)", "", None)


def _message(exc: BaseException) -> str:
    try:
        if isinstance(exc, _SystemExit):
            return _exit_message(exc)
        text = str(exc)
        text = text if type(text) is str else str.__str__(text)
    except KeyboardInterrupt:
        return _STOPPED
    except BaseException:  # a hostile or broken __str__
        return "<exception str() failed>"
    hint = missing.hint(exc)
    return f"{text}: {hint}" if hint else text


def _exit_message(exc: SystemExit) -> str:
    code: object = exc.code
    shown = repr(code) if type(code) is int or type(code) is str else ""
    return f"sys.exit({shown}) ended the cell; the sandbox and its variables are still there"


def _standard(exc: BaseException) -> str:
    """As the interpreter would show it."""
    if _chain_length(exc) > _MAX_CHAIN:
        raise ValueError("too many exceptions hang on this one")
    rendered = _Rendered(type(exc), exc, _from_cell(exc.__traceback__), limit=-_MAX_FRAMES, compact=True)
    _hide_our_frames(rendered)
    lines = (
        rendered.format() if rendered.stack or exc.__cause__ or exc.__context__ else rendered.format_exception_only()
    )
    text = "".join(lines)
    hint = missing.hint(exc)
    return f"{text}({hint})\n" if hint else text


def _from_cell(tb: TracebackType | None) -> TracebackType | None:
    """Without the frames that led to the user's code: the lines of each one rendered are looked up in its file."""
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OURS):
        tb = tb.tb_next
    return tb


def _chain_length(exc: BaseException) -> int:
    seen: set[int] = set()
    todo: list[BaseException] = [exc]
    while todo and len(seen) <= _MAX_CHAIN:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        todo.extend(other for other in (one.__cause__, one.__context__) if other is not None)
        if isinstance(one, _Group):
            todo.extend(getattr(one, "exceptions", ())[: _MAX_CHAIN + 1])
    return len(seen)


def _hide_our_frames(rendered: traceback.TracebackException) -> None:
    todo: list[traceback.TracebackException | None] = [rendered]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.stack[:] = [frame for frame in one.stack if not frame.filename.startswith(_OURS)]
        todo += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]


_OURS = _standard.__code__.co_filename.rpartition("/")[0] + "/"


def _plain(exc: BaseException, name: str, message: str) -> str:
    """A traceback made from nothing but frames and line numbers."""
    lines = ["Traceback (most recent call last):\n"]
    try:
        frames = [(f, n) for f, n in _walk(exc.__traceback__) if not f.startswith(_OURS)]
        for filename, number in frames[-_MAX_FRAMES:]:
            lines.append(f'  File "{filename}", line {number}\n')
            source = linecache.getline(filename, number).strip()
            lines.append(f"    {source[:200]}\n" if source else "")
    except BaseException:  # no memory, no stack or no time left: what is there has to do
        lines.append("  ...\n")
    return f"{''.join(lines)}{name}: {message}\n"


def _walk(tb: TracebackType | None) -> Iterator[tuple[str, int]]:
    steps = 0
    while tb is not None and steps < 100_000:  # a `__traceback__` may be a ring
        yield tb.tb_frame.f_code.co_filename, tb.tb_lineno or 0
        tb = tb.tb_next
        steps += 1


def _line(exc: BaseException, cell: str) -> int | None:
    line: int | None = None
    for filename, number in _walk(exc.__traceback__):
        if filename == cell:
            line = number
    if line is None and isinstance(exc, _SyntaxError) and exc.filename == cell and type(exc.lineno) is int:
        line = exc.lineno
    return line if line is not None and 0 <= line < 2**31 else None
