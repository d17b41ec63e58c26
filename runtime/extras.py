"""How to get an optional dependency: the one place that knows what to type, in a checkout and elsewhere."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
"""Of a checkout, whose links `resolve` follows; elsewhere the package itself."""


def install_command(extra: str) -> str:
    """What brings an extra of this package: from the index by its name, into a checkout from the checkout itself."""
    if (_ROOT / "pyproject.toml").is_file():
        return f"in the checkout, pip install -e '.[{extra}]'"
    return f"pip install 'cloche[{extra}]'"
