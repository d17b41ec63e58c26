"""`additional_authorized_imports`: which packages of the image the model's code may import.

The rule: this is guidance for the model, not a wall. It is kept by a wrapper around `__import__` inside the guest,
which code that means to can get around; what such code then has is a package of the image, inside the same sandbox.
Nothing can be installed at run time, and the standard library is always allowed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, cast

from ..runtime.errors import ConfigError
from .option_checks import several

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(\.\*)?", re.ASCII)

_PRELUDE: Final = """\
def _authorize(allowed):
    import builtins, importlib.util, sys
    real = builtins.__import__
    free = sys.stdlib_module_names | allowed
    shown = "the standard library" + "".join(f", {name}" for name in sorted(allowed))
    def __import__(name, globals=None, locals=None, fromlist=(), level=0):
        root = name.partition(".")[0]
        if not level and globals is not None and globals.get("__name__") == "__main__" and root not in free:
            try:
                origin = str(getattr(importlib.util.find_spec(root), "origin", ""))
            except (ImportError, ValueError):
                origin = ""
            if origin.startswith("/lib/"):
                raise ImportError(f"import of {root!r} is not authorized here; you may import {shown}", name=root)
        return real(name, globals, locals, fromlist, level)
    builtins.__import__ = __import__
_authorize({allowed})
"""


def checked_imports(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The top-level packages of an allow list; None: everything that the image holds (also for `"*"`).

    Raises:
        ConfigError: a name cannot be a module's.
    """
    if names is None or names == "*":
        return None
    entries = several("additional_authorized_imports", names)
    if "*" in entries:
        return None
    for name in entries:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"additional_authorized_imports: {name!r:.100} is not the name of a module")
    return tuple(dict.fromkeys(name.partition(".")[0] for name in cast("tuple[str, ...]", entries)))


def prelude(packages: Sequence[str] | None) -> str:
    """Code for a fresh sandbox that keeps to the allow list. The names were checked: they may stand in source.

    It runs in a namespace of its own, so that inputs and variables called `str` or `sorted` do not reach into it.
    """
    if packages is None:
        return ""
    source = _PRELUDE.replace("{allowed}", f"frozenset({sorted(packages)!r})")
    return f'__import__("builtins").exec({source!r}, {{"__name__": "_authorize"}})'
