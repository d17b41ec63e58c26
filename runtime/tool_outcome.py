"""What the guest sees of a tool call that is over: the encoded result, or a type name and a safe message.

The rule: no traceback, no control characters, nothing without a bound. The text of an unexpected exception stays on the
host, because it may quote paths, addresses or secrets.
"""

from __future__ import annotations

import sys

from .output import escape_controls
from .plain import record
from .tool_hooks import ToolOutcomeKind
from .tool_signature import BadResult
from .tools import ToolError
from .values import ValueLimits, encode

MAX_MESSAGE = 2000
"""Characters of a tool's error message that the guest sees."""
SHOWN = (ToolError, ValueError, TypeError, LookupError, ArithmeticError)
"""Exceptions whose message is about the arguments and passes on."""
HIDDEN = "the tool failed; its message stays on the host (a tool raises ToolError to pass one on)"
"""Told in place of the message of every other exception."""
_ERROR_LIMITS = ValueLimits(size=64 * 1024)


class Refused(Exception):
    """A call that gives no result: `kind` and the message are what the guest sees."""

    def __init__(self, kind: str, message: str, outcome: ToolOutcomeKind = "error") -> None:
        super().__init__(message)
        self.kind = kind
        self.outcome: ToolOutcomeKind = outcome
        """The word of observers for it, if the call had been admitted."""


class Denied(Refused):
    """A call that a hook of the host's, or the lack of one, has denied."""

    def __init__(self, reason: str, end_run: bool) -> None:
        super().__init__("ToolDenied", reason, "denied")
        self.end_run = end_run


class HookFailed(Denied):
    """A hook of the host's raised, so the call is denied. The guest hears no more than that; `exc` is for the log."""

    def __init__(self, tool: str, hook: str, exc: BaseException) -> None:
        super().__init__(f"{tool} could not be approved; the reason stays on the host", False)
        self.what = f"tool {tool}: its {hook} hook failed, the call is denied"
        self.exc = exc


class Late(TimeoutError):
    """An attempt that took longer than it may."""

    def __init__(self, tool: str, allowed_s: float, used_s: float) -> None:
        super().__init__(f"{tool} did not answer within {allowed_s:g} s")
        self.allowed_s = allowed_s
        self.used_s = max(used_s, allowed_s)


@record
class Outcome:
    """One finished call; `payload` is an encoded value, as the frames carry it."""

    ok: bool
    payload: bytes
    end_cell: bool = False
    refused: Refused | None = None
    """Why there is no result."""


def failure(refused: Refused) -> Outcome:
    """The outcome of a call that gives no result."""
    ends = isinstance(refused, Denied) and refused.end_run
    payload = encode([refused.kind, tidy(str(refused))], _ERROR_LIMITS)
    # Its frames hold the outcome that holds it: thousands of refused calls would be garbage for the collector.
    refused.__traceback__ = refused.__context__ = None
    return Outcome(ok=False, payload=payload, end_cell=ends, refused=refused)


def refusal(exc: BaseException) -> Refused:
    """What the guest sees of an exception of a tool: its type, and its message if that is meant to be seen."""
    if isinstance(exc, BadResult):
        return Refused("InvalidResult", tidy(exc.told))
    return Refused(tidy(type(exc).__name__)[:100], message_of(exc))


def message_of(exc: BaseException) -> str:
    """The message of a tool's exception, or a sentence in its place."""
    if not isinstance(exc, SHOWN):
        return HIDDEN
    try:
        text = _explained(exc) or str(exc)
    except Exception:  # noqa: BLE001  # tool dispatch: a __str__ of the tool's author
        return "(its message cannot be shown)"
    return tidy(text)


def _explained(exc: BaseException) -> str | None:
    """pydantic's own errors, without the inputs that their text quotes; None for every other exception."""
    if "pydantic_core" not in sys.modules:
        return None
    from pydantic_core import ValidationError

    from .argument_reader import explain

    return explain(exc) if isinstance(exc, ValidationError) else None


def tidy(text: str) -> str:
    """Bounded text without control characters, that can cross."""
    text = escape_controls(text[: MAX_MESSAGE + 1])
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."
