"""What may be said about a tool beside its function: names, time, retries, approval, marks. Checked once.

The rule: a tool that may change something is not called twice unless its author says so.
"""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, cast

from .errors import ConfigError

NeedsApproval = bool | Callable[[Mapping[str, Any]], bool]
"""A flag, or a predicate over the validated arguments by parameter name."""
RETRY_ON: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
"""What is worth another attempt, unless the tool says otherwise."""
MAX_RETRIES = 10
MAX_NAME_LENGTH = 64
"""What the tool calling of common model APIs takes."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
RESERVED_NAMES = frozenset(dir(builtins)) - {"_", "display", "get_ipython"} | {"tools"}
"""Names that a tool would hide from the guest's code; the exceptions are put into builtins by shells."""


class ToolOptions(TypedDict, total=False):
    """Keyword options of `tool` and `Tool`."""

    name: str | None
    """The guest's name for it; default: the function's."""
    description: str | None
    """For the model; default: the docstring."""
    timeout_s: float | None
    """Seconds of one attempt; `Limits.tool_s` is above it."""
    end_cell: bool
    """The cell ends when the tool returns (final answers)."""
    retries: int
    """Further attempts after a failed one, for `retry_on` only. Needs `read_only`, `idempotent` or `retry_unsafe`."""
    retry_on: tuple[type[Exception], ...]
    """Default: ConnectionError and TimeoutError; the latter is also what an attempt over its time counts as."""
    retry_pause_s: float
    """Pause before the second attempt; it doubles each time, with jitter, up to 30 s."""
    retry_unsafe: bool
    """Retry although the tool may change something."""
    requires_approval: NeedsApproval
    """True, or a predicate over the validated arguments: the `approve` hook is asked before the call."""
    read_only: bool
    """It changes nothing."""
    idempotent: bool
    """Calling it twice does no more than calling it once."""
    destructive: bool
    """It may delete or overwrite. A mark for hosts, models and hooks; alone it stops nothing."""
    check_result: bool
    """False: a result passes whatever the return annotation says."""
    output_schema: Mapping[str, object] | None
    """JSON Schema of the result, where the annotation says less."""


OPTION_NAMES = frozenset(ToolOptions.__annotations__)


def check_options(tool: str, given: Mapping[str, object]) -> None:
    """Raises ConfigError for an option that does not exist or cannot be."""
    unknown = set(given) - OPTION_NAMES
    if unknown:
        raise ConfigError(f"tool {tool!r}: there is no option {sorted(unknown)[0]!r}")
    timeout_s = given.get("timeout_s")
    if timeout_s is not None and not (isinstance(timeout_s, int | float) and timeout_s > 0):
        raise ConfigError(f"tool {tool!r}: timeout_s is {timeout_s}, not a time above 0")
    needed = given.get("requires_approval", False)
    if not isinstance(needed, bool) and not callable(needed):
        raise ConfigError(f"tool {tool!r}: requires_approval is True, False or a function of the arguments")
    if given.get("read_only") and given.get("destructive"):
        raise ConfigError(f"tool {tool!r}: it cannot be read_only and destructive")
    _check_retries(tool, given)


def _check_retries(tool: str, given: Mapping[str, object]) -> None:
    retries = given.get("retries", 0)
    if not isinstance(retries, int) or isinstance(retries, bool) or not 0 <= retries <= MAX_RETRIES:
        raise ConfigError(f"tool {tool!r}: retries is a whole number from 0 to {MAX_RETRIES}")
    if retries and not (given.get("read_only") or given.get("idempotent") or given.get("retry_unsafe")):
        raise ConfigError(
            f"tool {tool!r}: retries calls it again after a failure; mark it read_only=True or idempotent=True, "
            "or say retry_unsafe=True"
        )
    pause = given.get("retry_pause_s", 0.0)
    if not isinstance(pause, int | float) or not 0 <= pause < math.inf:
        raise ConfigError(f"tool {tool!r}: retry_pause_s is a time of 0 or more")
    kinds = given.get("retry_on", ())
    if not isinstance(kinds, tuple) or not all(_is_exception(kind) for kind in cast("tuple[object, ...]", kinds)):
        raise ConfigError(f"tool {tool!r}: retry_on is a tuple of exception classes")


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def checked_name(name: str) -> str:
    """The name, if the guest's code can use it.

    Raises:
        ConfigError: it cannot.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > MAX_NAME_LENGTH:
        reason = f"not a Python name of at most {MAX_NAME_LENGTH} ASCII characters"
    elif name.startswith("__") or name in RESERVED_NAMES:
        reason = "it would hide a name that the guest's code needs"
    else:
        return name
    raise ConfigError(f"a tool cannot be named {name[:100]!r}: {reason}; give it another with name=")
