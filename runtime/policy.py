"""What the owner of a host insists on, beyond limits: sandboxes that cannot have it are refused.

The rule: a policy only ever refuses. It is checked each time a fork server starts, before the first sandbox of it.
"""

from __future__ import annotations

from collections.abc import Collection

from .errors import ConfigError
from .plain import dataclass
from .walls import NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Demands on every sandbox of a runtime."""

    require_walls: Collection[str] = frozenset()
    """Names of walls (`Runtime.walls()`) without which no sandbox starts: `WallMissing` then says what to do."""

    def __post_init__(self) -> None:
        if isinstance(self.require_walls, str):
            raise ConfigError("require_walls is a set of names, not one string")
        unknown = sorted(set(self.require_walls) - NAMES)
        if unknown:
            raise ConfigError(f"there is no wall {unknown[0]!r:.60}; the walls are {', '.join(sorted(NAMES))}")
        object.__setattr__(self, "require_walls", frozenset(self.require_walls))
