"""Whether options are what they should be, said when the agent is made, in words that say what to write.

The rule: nothing here changes what is good; each function gives it back as the agent keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from ..runtime.errors import ConfigError


def several(name: str, given: object, form: str) -> tuple[object, ...]:
    """The entries of an option that is a list.

    Raises:
        ConfigError: it cannot be gone through, or is a text, whose letters nobody means.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"{name} is a list, not {given!r:.100}; write {name}=[{form}]")
    return tuple(cast("Iterable[object]", given))


def stop_sequences(given: object) -> tuple[str, ...]:
    """
    Raises:
        ConfigError: it is no list of texts that are not empty.
    """
    entries = several("stop", given, f"{given!r:.100}" if isinstance(given, str) else "...")
    for entry in entries:
        if not isinstance(entry, str) or not entry:
            raise ConfigError(f'stop holds texts that are not empty, not {entry!r:.100}; write stop=["..."]')
    return cast("tuple[str, ...]", entries)
