"""What `cloche run` shows on a terminal: nothing that a model or guest wrote moves the cursor or sets the title."""

from __future__ import annotations

import io

import pytest

from cloche.agents.events import CodeParsed, OutputChunk, StepFinished
from cloche.agents.messages import ModelReply
from cloche.agents.result import ActionStep, StepError
from cloche.cli.run_progress import progress_on

HOSTILE = "a\x1b]0;pwned\x07b\x1b[2Jc\x9b1md\u202ee\r\x00[bold]f[/bold]"
FORBIDDEN = ("\x1b]0;", "\x1b[2J", "\x07", "\x9b", "\u202e", "\r", "\x00")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.guarantee("G26")
def test_no_control_character_of_a_guest_or_model_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    show = progress_on(terminal)
    step = ActionStep(number=1, reply=ModelReply(text="x"), error=StepError(type=HOSTILE, message=HOSTILE))
    show(CodeParsed(step=1, thought=HOSTILE, code=f"print({HOSTILE!r}) # {HOSTILE}"))
    show(OutputChunk(step=1, stream="stdout", text=HOSTILE))
    show(StepFinished(step))
    shown = terminal.getvalue()
    assert [text for text in FORBIDDEN if text in shown] == []
    assert "[bold]f[/bold]" in shown, "and it is no markup either"
    assert "\\x1b]0;pwned\\x07" in shown
