"""How an error of cloche reaches a person: one line that says what is wrong, and one that says the next step."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final

from ..runtime.errors import ClocheError
from .terminal import escape_controls, write_text

_ADVICE: Final = {
    "timed_out": "Give it more time with --deadline SECONDS, or let the code do less.",
    "out_of_memory": "Raise --memory-mb, or let the code hold less at once.",
    "pool_exhausted": "Other sandboxes hold every worker; try again later.",
    "worker_crashed": "The worker is gone and its state with it; run it again. `cloche doctor` tests this machine.",
    "protocol": "The worker misbehaved and was stopped; treat what the code did as hostile.",
}
"""By `code` of the error. The message of an error that is not listed says all."""


def complain(exc: ClocheError) -> None:
    """Say it on stderr. With CLOCHE_DEBUG=1 the traceback comes first."""
    if os.environ.get("CLOCHE_DEBUG") == "1":
        write_text(escape_controls("".join(traceback.format_exception(exc))), sys.stderr)
    lines = [f"cloche: {escape_controls(str(exc))}"]
    if advice := _ADVICE.get(exc.code):
        lines.append(f"        {advice}")
    write_text("\n".join(lines) + "\n", sys.stderr)
