"""What the model is told about a cell."""

from __future__ import annotations

import pytest

from cloche.agents.observation import observe, observe_loss, observe_no_code, shorten
from cloche.runtime.cell import Artifact, Cell, Usage
from cloche.runtime.errors import ClocheError, OutOfMemory, TimedOut, WorkerCrashed
from cloche.runtime.protocol import GuestError
from cloche.runtime.tool_outcome import message_of

GO_ON = (
    "If this answers the task, reply with a ```python block that calls final_answer(...). "
    "Otherwise go on with the next block."
)
REPAIR = "Fix it and reply with a new ```python block."


def tell(cell: Cell, code: str = "x", max_chars: int = 10_000) -> list[str]:
    return observe(cell, code, max_chars=max_chars).split("\n")


def failed(kind: str, message: str = "", line: int | None = None) -> Cell:
    return Cell(error=GuestError(type=kind, message=message, traceback="...", line=line))


def timed_out(*, state_kept: bool, cell: Cell | None = None) -> TimedOut:
    return TimedOut("x", used=5.1, allowed=5.0, state_kept=state_kept, cell=cell)


def test_output_and_last_value_are_shown() -> None:
    cell = Cell(stdout="a\nb\n", stderr="warned\n", value=3, value_repr="3")
    assert tell(cell) == ["Output:", "a", "b", "Errors printed:", "warned", "Last value:", "3", GO_ON]


def test_a_silent_cell_says_so() -> None:
    assert tell(Cell()) == ["The code ran and printed nothing.", GO_ON]


def test_an_error_names_its_line_and_quotes_it() -> None:
    cell = failed("KeyError", "'Oslo'", line=2)
    assert tell(cell, "a = {}\nb = a['Oslo']\nc = 1") == [
        "Error in line 2: b = a['Oslo']",
        "KeyError: 'Oslo'",
        REPAIR,
    ]


@pytest.mark.parametrize("line", [None, 0, 9])
def test_a_line_that_is_not_there_is_not_quoted(line: int | None) -> None:
    assert tell(failed("ValueError", "no", line), "one line") == ["ValueError: no", REPAIR]


def test_a_long_line_is_cut() -> None:
    [first, *_] = tell(failed("ValueError", "no", 1), "x = '" + "y" * 500 + "'")
    assert len(first) == len("Error in line 1: ") + 200
    assert first.endswith("...")


def test_output_before_the_error_is_shown_first() -> None:
    cell = Cell(stdout="so far\n", error=GuestError(type="ValueError", message="no", traceback="", line=None))
    assert tell(cell) == ["Output:", "so far", "ValueError: no", REPAIR]


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("SyntaxError", "The block was not run."),
        ("ModuleNotFoundError", "Only the standard library can be imported; nothing can be installed."),
    ],
)
def test_common_errors_come_with_a_hint(kind: str, hint: str) -> None:
    assert tell(failed(kind, "m")) == [f"{kind.rpartition('.')[2]}: m", hint, REPAIR]


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (
            "InvalidArguments: f(): x: Input should be a valid integer",
            ["The function refused these arguments. Read its message and its docstring."],
        ),
        ("InvalidResult: f() gave a result ...", ["The function is at fault, not the arguments. Do without it."]),
        ("ToolDenied: not today", ["The call was not allowed. Do without it."]),
        (
            message_of(OSError("secret")),
            ["The function failed. Other arguments may not help; do without it if it fails again."],
        ),
        ("LimitExceeded: f did not answer within 1 s", []),
        ("ValueError: no city", ["The function refused these arguments. Read its message and its docstring."]),
        ("KeyError: 'gold'", []),
        ("the service is down until 5 pm", []),
    ],
)
def test_the_hint_about_a_failed_tool_is_the_one_for_its_kind(message: str, hint: list[str]) -> None:
    assert tell(failed("_cloche.tools.ToolError", message)) == [f"ToolError: {message}", *hint, REPAIR]


def test_long_output_keeps_head_and_tail_and_says_what_is_missing() -> None:
    text = "".join(f"{number}\n" for number in range(10_000))
    shown = tell(Cell(stdout=text), max_chars=300)
    assert (shown[1], shown[-2]) == ("0", "9999")
    assert [line for line in shown if "missing" in line] == [
        f"... [{len(text) - 1 - 300} characters are missing here] ..."
    ]
    assert sum(map(len, shown)) < 600


@pytest.mark.parametrize("size", [0, 1, 299, 300, 301, 5000])
def test_shortening_keeps_short_texts_as_they_are_and_bounds_long_ones(size: int) -> None:
    text = "x" * size
    short = shorten(text, 300)
    assert (short == text) if size <= 300 else (len(short) < 360 and short.count("x") == 300)


def test_output_cut_by_the_sandbox_is_named_and_files_are_listed() -> None:
    file = Artifact(name="plot.svg", path="/out/plot.svg", mime="image/svg+xml", data=b"", sha256="")
    shown = tell(Cell(stdout="x", output_cut=True, artifacts=(file,)))
    assert shown[2:4] == ["The output was cut because it was too long.", "Files written: plot.svg"]


def test_the_same_cell_gives_the_same_text_however_long_it_took() -> None:
    slow = Cell(stdout="x", usage=Usage(wall_s=9, cpu_s=8, memory_bytes=7))
    assert observe(slow, "c", max_chars=300) == observe(Cell(stdout="x"), "c", max_chars=300)


def test_a_timeout_shows_what_was_printed_and_whether_variables_are_left() -> None:
    kept = observe_loss(timed_out(state_kept=True, cell=Cell(stdout="half\n", complete=False)), max_chars=300)
    assert kept.split("\n") == [
        "Output:",
        "half",
        "Error: the code ran longer than 5 seconds and was stopped.",
        REPAIR,
    ]
    lost = observe_loss(timed_out(state_kept=False), max_chars=300)
    assert lost.split("\n")[1] == "All variables are gone; start again from the beginning."


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (WorkerCrashed("secret detail"), "Error: the interpreter ended while it ran the code."),
        (
            OutOfMemory("secret detail", limit="memory_mb", used=300, allowed=256),
            "Error: the code used more than its limit (memory_mb: 256) and was stopped.",
        ),
    ],
)
def test_a_lost_sandbox_is_told_without_details_of_the_host(error: ClocheError, first: str) -> None:
    shown = observe_loss(error, max_chars=300).split("\n")
    assert shown == [first, "All variables are gone; start again from the beginning.", REPAIR]


def test_a_reply_without_code_gets_an_example() -> None:
    assert observe_no_code("No code.").split("\n") == [
        "No code. Reply with one ```python block and nothing else. To give the result of the task:",
        "```python",
        "final_answer(result)",
        "```",
    ]
