"""The Python that runs inside the sandbox: `_cloche` in the guest, never imported by the host.

Rule: nothing here is a wall. Guest code may change any of it and harms its own sandbox only; the host checks every
byte. What this package owes is to stay standing under ordinary accidents, and to be quick.

`install()` makes the entry function; the image builder calls it once, before the memory is baked.
"""

from __future__ import annotations


def install() -> None:
    """Patch the standard library for life under glass and hand the entry function to the host."""
    from .entry import install as install_entry

    install_entry()
