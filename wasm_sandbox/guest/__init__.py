"""The Python that runs inside the sandbox: `_cloche` in the guest, never imported by the host.

Rule: nothing here is a wall. Guest code may change any of it and harms its own sandbox only; the host checks every
byte. What this package owes is to stay standing under ordinary accidents, and to be quick.

`install()` makes the entry function; the image builder calls it once, before the memory is baked.
"""

from __future__ import annotations

import builtins
import sys
from importlib.util import find_spec, module_from_spec

_MODULES = (
    *("value_types", "value_forms", "value_decoder", "value_encoder", "values"),
    *("frames", "interrupts", "streams", "calls", "tools", "missing", "display", "loop", "program", "reprs"),
    *("reserve", "runner", "patches", "rehearsal", "entry"),
)
"""Each after those that it imports."""
_builtins = vars(builtins).copy()


def _load(name: str) -> None:
    """Import a module of this package with builtins of its own: a cell that replaces `len` replaces it for cells."""
    full = f"{__name__}.{name}"
    spec = find_spec(full)
    if full in sys.modules or spec is None or spec.loader is None:
        return
    module = sys.modules[full] = module_from_spec(spec)
    vars(module)["__builtins__"] = _builtins
    spec.loader.exec_module(module)
    globals()[name] = module


for _name in _MODULES:
    _load(_name)


def install() -> None:
    """Patch the standard library for life under glass and hand the entry function to the host."""
    from .entry import install as install_entry

    install_entry()
