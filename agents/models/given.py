"""`GivenText`: text on its way to the caller. What was given out once must never be given out again."""

from __future__ import annotations

from ..model import OnText


class GivenText:
    """Passes text on, and knows whether any was."""

    def __init__(self, on_text: OnText | None) -> None:
        self._on_text = on_text
        self.began = False

    def __call__(self, text: str) -> None:
        if self._on_text is not None and text:
            self.began = True
            self._on_text(text)
