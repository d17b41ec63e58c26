"""What `sys.exit(...)` in a cell means for the command, as it would for `python`: a code, and perhaps a text on stderr.

The rule: the guest's words are only looked at. Whatever does not look like an exit is an error like any other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import exits

if TYPE_CHECKING:
    from ..runtime.protocol import GuestError

_MESSAGE = re.compile(r"sys\.exit\((.*)\) ended the cell; ", re.DOTALL)
"""How the guest words it: with the code if it is an integer or a text, else with nothing."""
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NAME = "\nSystemExit"


def exit_of(error: GuestError) -> tuple[int, str] | None:
    """The exit code and what belongs on stderr before it; None: the error is no exit."""
    found = _MESSAGE.match(error.message) if error.type == "SystemExit" else None
    if found is None:
        return None
    shown: str = found[1]
    if _INTEGER.fullmatch(shown):
        return int(shown) & 0xFF, ""  # what the system keeps of it
    _, name, tail = f"\n{error.traceback}".rpartition(_NAME)
    text = tail.removeprefix(": ").removesuffix("\n") if name else shown
    if not shown and text in ("", "None"):
        return exits.OK, ""
    return exits.GUEST_ERROR, f"{text}\n"
