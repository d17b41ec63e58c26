"""What people and second models see of a run: console, log records, transcript."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support.agent_worker import block
from tests.support.agents import calls, code_agent, fake_runtime, tool_agent

from cloche import ConsoleLogger, ModelReply, Runtime, transcript
from cloche.agents.errors import ModelError
from cloche.agents.events import StepFinished
from cloche.agents.result import ActionStep, FinalAnswerStep, PlanningStep, StepError, TaskStep
from cloche.agents.transcript import as_text


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with fake_runtime() as made:
        yield made


def console(width: int = 100) -> tuple[ConsoleLogger, io.StringIO]:
    rich_console = pytest.importorskip("rich.console")
    out = io.StringIO()
    return ConsoleLogger(rich_console.Console(file=out, width=width, color_system=None)), out


EVIL = ActionStep(
    number=1,
    reply=ModelReply(text=""),
    thought="[bold]not markup[/bold] [/nonsense]",
    code="x = '\x1b[2J'",
    observation="\x1b]0;owned\x07 \u202e" + "y" * 10_000,
    error=StepError(type="E", message="m"),
)

TRACE = (
    TaskStep(task="Add.", inputs={"rows": "list of 2"}),
    PlanningStep(number=1, plan="First this.", reply=ModelReply(text="First this.")),
    ActionStep(number=1, reply=ModelReply(text="I think.\ncode"), code="1 + 1", observation="z" * 1000),
    FinalAnswerStep(output=2),
)


def test_the_console_shows_a_run_as_it_goes(runtime: Runtime) -> None:
    logger, out = console()
    agent = code_agent(runtime, block('print "hello"'), block("final_answer 4"))
    with agent.stream("Add.") as events:
        for event in events:
            logger(event)
    shown = out.getvalue()
    assert [
        word for word in ("step 1", "print", "hello", "step 2", "final_answer 4", "final", "4") if word not in shown
    ] == []
    whole, again = console()
    assert events.result is not None
    whole.show(events.result)
    assert "step 2" in again.getvalue()


def test_text_of_a_guest_reaches_no_terminal_as_it_is() -> None:
    logger, out = console()
    logger(StepFinished(EVIL))
    shown = out.getvalue()
    assert [char for char in ("\x1b", "\x07", "\u202e") if char in shown] == []
    assert "[bold]not markup[/bold] [/nonsense]" in shown
    assert len(shown) < 6000


def test_rich_and_opentelemetry_are_imported_only_when_they_are_used() -> None:
    code = (
        "import sys, cloche; cloche.CodeAgent; cloche.ConsoleLogger; cloche.OpenTelemetryTracer; "
        "print([name for name in ('rich', 'opentelemetry') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=True, encoding="utf-8"
    )
    assert done.stdout == "[]\n"


def test_a_run_is_logged_without_what_it_was_about(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="cloche.agents")
    run = code_agent(runtime, block('print "secret"'), block("final_answer 4")).run("Add the secret.")
    mine = [record for record in caplog.records if record.name == "cloche.agents"]
    assert [record.levelname for record in mine] == ["INFO", "DEBUG", "DEBUG", "INFO"]
    assert all(run.run_id in record.getMessage() for record in mine)
    assert "secret" not in caplog.text


def test_words_of_others_in_a_log_are_one_escaped_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="cloche.agents")
    agent = tool_agent(calls(("get_price", {"item": "tea"})), ModelError("down\n\x1b[31mFORGED" + "x" * 100_000))
    with pytest.raises(ModelError):
        agent.run("Buy.")
    last = caplog.records[-1]
    assert (last.name, last.levelname) == ("cloche.agents", "WARNING")
    assert "\n" not in last.getMessage()
    assert "\x1b" not in last.getMessage()
    assert len(last.getMessage()) < 10_000


def test_a_transcript_has_the_whole_run_in_turns() -> None:
    said = transcript(TRACE, system="Judge it.")
    assert [message.role for message in said] == ["system", "user", "assistant", "user", "assistant"]
    assert said[1].content == "Task: Add.\nInputs:\n- rows: list of 2"
    assert said[2].content == "Plan:\nFirst this.\n\nI think.\ncode"
    assert said[3].content == "Observation:\n" + "z" * 1000
    assert said[4].content == "Final answer: 2"
    assert as_text(said).startswith("## System\nJudge it.\n\n## User\nTask: Add.")


def test_a_summary_has_code_and_short_observations_and_no_thoughts() -> None:
    said = transcript(TRACE, summary=True)
    assert [message.role for message in said] == ["user", "assistant", "user", "assistant"]
    assert said[1].content == "```python\n1 + 1\n```"
    assert len(said[2].content) < 330
    assert "[...]" in said[2].content


def test_a_transcript_of_tool_calls_is_text() -> None:
    run = tool_agent(calls(("get_price", {"item": "tea"})), calls(("final_answer", {"value": 3.5}))).run("Buy.")
    said = transcript(run)
    assert all(not message.tool_calls and message.tool_call_id is None for message in said)
    assert "Calls get_price with {'item': 'tea'}" in said[1].content
    assert all(one.role != other.role for one, other in zip(said, said[1:], strict=False))


def test_a_console_logger_shows_how_it_is_set_up() -> None:
    pytest.importorskip("rich")
    assert repr(ConsoleLogger(max_chars=50)) == "<ConsoleLogger max_chars=50 thoughts=True>"
