"""What an agent needs of a sandbox. `AsyncSandbox` is one; tests have a small fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..runtime.cell import Cell
from ..runtime.output import OnOutput
from ..runtime.tools import Tool


class Box(Protocol):
    """An open sandbox. Tools run with the context variables of the task that calls `run`."""

    async def run(
        self,
        code: str,
        deadline_s: float | None = None,
        inputs: Mapping[str, object] | None = None,
        on_output: OnOutput | None = None,
    ) -> Cell:
        """As `AsyncSandbox.run`."""
        ...

    async def reset(self) -> None:
        """As `AsyncSandbox.reset`."""
        ...


OpenBox = Callable[[Sequence[Tool]], AbstractAsyncContextManager[Box]]
"""Opens a sandbox that has these tools; leaving the context closes it."""
