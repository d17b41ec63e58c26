"""The exit codes of the command line; `docs/cli.md` has the same table."""

from __future__ import annotations

from typing import Final

OK: Final = 0
GUEST_ERROR: Final = 1
"""The cell raised, or the agent did not finish: `cloche` itself worked."""
REFUSED: Final = 2
"""The call was wrong, or cloche cannot work here; the line on stderr says what to do."""
TIMED_OUT: Final = 124
"""The deadline passed; the same number as coreutils `timeout`."""
INTERRUPTED: Final = 130
"""Ctrl-C."""
BROKEN_PIPE: Final = 141
"""The reader of the output went away."""
