"""`python patiently.py SCRIPT ...` runs it as `python SCRIPT ...` would, where the machine may stand still.

Its cells that may run for a second get four, and a guest that heeds the interrupt keeps its state.
"""

from __future__ import annotations

import os
import runpy
import sys

from cloche.runtime import execution
from cloche.runtime.limits import Limits

SECONDS = 4
"""In place of each one."""


def main() -> None:
    check = Limits.__post_init__

    def stretch(limits: Limits) -> None:
        if limits.wall_s <= 1:
            object.__setattr__(limits, "wall_s", SECONDS * limits.wall_s)
        check(limits)

    Limits.__post_init__ = stretch  # type: ignore[method-assign,assignment]
    execution.INTERRUPT_GRACE_S = 5.0
    del sys.argv[0]
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
