"""`make demo`: an agent solves a task with host tools in a sandbox; then three attacks; then what all of it took.

Without a model at hand it replays the words of a real one from demo_data/conversation.json. Only these words are
recorded. The sandbox, the tools and their data are live, and the replay fails as soon as the model would be told one
character that it was not told then.

CLOCHE_MODEL=name runs the same with a live model: a LiteLLM name, or with CLOCHE_BASE_URL=http://.../v1 (and
CLOCHE_API_KEY) a model of that endpoint. --record keeps the new conversation.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import textwrap
import time
from pathlib import Path

from cloche import (
    ClocheError,
    CodeAgent,
    Limits,
    LiteLLMModel,
    Model,
    OpenAIModel,
    RecordingModel,
    ReplayModel,
    RunResult,
    Sandbox,
    TimedOut,
    tool,
)
from cloche.agents.events import CodeParsed, Event, RunFinished, StepFinished

DATA = Path(__file__).parent / "demo_data"
CONVERSATION = DATA / "conversation.json"
TASK = (
    "How many millimetres of rain fell in July 2024 on average at the stations above 300 metres? Round to one decimal."
)
RECORDED_ANSWER = 122.4
"""The end of the recorded run, which the model is not told any more."""

# --- tools: they run here on the host and read its files, which the sandbox cannot ------------------------------------


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ALTITUDES = {row["station"]: int(row["altitude_m"]) for row in _rows("stations.csv")}
RAINFALL = {(row["station"], row["month"]): float(row["rain_mm"]) for row in _rows("rainfall.csv")}


@tool
def list_stations() -> list[str]:
    """Names of all weather stations."""
    return list(ALTITUDES)


@tool
def altitude(station: str) -> int:
    """Altitude of a station in metres."""
    return ALTITUDES[station]


@tool
def rainfall(station: str, month: str) -> float:
    """Rain that fell at a station in one month, in millimetres."""
    if (station, month) not in RAINFALL:
        raise ValueError(f"no readings for month {month!r}; months are written like '2024-01'")
    return RAINFALL[station, month]


def true_answer() -> float:
    """The same question, answered by the host from its own data."""
    rain = [RAINFALL[station, "2024-07"] for station, metres in ALTITUDES.items() if metres > 300]
    return round(sum(rain) / len(rain), 1)


# --- the agent --------------------------------------------------------------------------------------------------------


def choose_model(record: bool) -> tuple[Model, str]:
    """The model, and what to say about it."""
    name, base_url = os.environ.get("CLOCHE_MODEL"), os.environ.get("CLOCHE_BASE_URL")
    if name is None:
        replay = ReplayModel(CONVERSATION)
        return replay, (
            f"The model's words are recorded ({replay.name}). Everything else is live: its code runs in a sandbox "
            "now, the tools run on this machine now, and the replay fails if the model would be told anything else."
        )
    key = os.environ.get("CLOCHE_API_KEY")
    model: Model = (
        OpenAIModel(name, base_url=base_url, api_key=key, temperature=0)
        if base_url
        else LiteLLMModel(name, temperature=0)
    )
    return (RecordingModel(model, CONVERSATION) if record else model), f"The model is live: {name}."


def show(event: Event) -> None:
    """One event of the run as text."""
    if isinstance(event, CodeParsed):
        print(f"\n--- step {event.step}: the model writes\n{textwrap.indent(event.code, '    ')}")
    elif isinstance(event, StepFinished) and event.step.observation:
        if event.step.code is None:
            print(f"\n--- step {event.step.number}: the model writes no code")
        print(f"    it is told\n{textwrap.indent(event.step.observation, '    | ')}")


def solve(model: Model) -> RunResult:
    """Run the task, showing each step as it comes."""
    agent = CodeAgent(tools=[list_stations, altitude, rainfall], model=model, max_steps=8)
    with agent.stream(TASK) as events:
        for event in events:
            show(event)
            if isinstance(event, RunFinished):
                return event.result
    raise AssertionError("a run that does not raise ends with RunFinished")


# --- the attacks ------------------------------------------------------------------------------------------------------

ATTACKS = {
    "read a file of the host": "open('/etc/passwd').read()",
    "reach the network": "import urllib.request\nurllib.request.urlopen('http://1.1.1.1/', timeout=5).read()",
    "run for ever": "while True:\n    pass",
}


def attack(box: Sandbox, code: str) -> str:
    """What the guest got for it."""
    try:
        cell = box.run(code)
    except TimedOut as exc:
        state = "kept" if exc.state_kept else "lost"
        return f"stopped after {exc.allowed:g} s; the sandbox's state is {state}"
    if cell.error is not None:
        return f"{cell.error.type}: {cell.error.message}"
    return f"SUCCEEDED: {cell.value!r:.80}"


def attack_all() -> bool:
    """Try each attack in one sandbox; whether all failed and the sandbox still works."""
    print("\n=== Three attacks: a sandbox runs what an attacker would have the model write")
    held = True
    with Sandbox(limits=Limits(wall_s=1)) as box:
        box.run("mark = 'still here'")
        for name, code in ATTACKS.items():
            outcome = attack(box, code)
            held = held and not outcome.startswith("SUCCEEDED")
            print(f"{name:>24}: {outcome}")
        after = box.run("mark").value
    print(f"{'afterwards':>24}: a variable from before the attacks is {after!r}")
    return held and after == "still here"


# --- all of it --------------------------------------------------------------------------------------------------------


def print_timings(result: RunResult, started: float, solved: float) -> None:
    cells = [step.cell for step in result.steps if step.cell is not None]
    tool_calls = sum(cell.usage.tool_calls for cell in cells)
    timing = result.timing
    rows = [
        ("model", timing.model_s),
        (f"{len(cells)} cells in the sandbox with {tool_calls} tool calls", timing.sandbox_s),
        (
            "the first sandbox of this process: load the image, open, close",
            timing.total_s - timing.model_s - timing.sandbox_s,
        ),
        ("the whole run of the agent", solved - started),
        ("the attacks, one of which runs into a limit of 1 s", time.perf_counter() - solved),
    ]
    print("\n=== What it took, in milliseconds")
    for name, seconds in rows:
        print(f"{seconds * 1000:10.1f}  {name}")
    peak = max((cell.usage.memory_bytes for cell in cells), default=0)
    print(f"{peak / 2**20:10.1f}  MiB of memory in the sandbox, most of it shared with others")


def main() -> int:
    parser = argparse.ArgumentParser(description="An agent in a sandbox, three attacks on it, and timings.")
    parser.add_argument("--record", action="store_true", help="with CLOCHE_MODEL: keep the conversation for replays")
    options = parser.parse_args()
    model, words = choose_model(options.record)
    print(textwrap.fill(words, 100))
    print(f"\n=== The task\n{TASK}")
    started = time.perf_counter()
    try:
        result = solve(model)
    except ClocheError as exc:
        print(f"\nthe run failed: {type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    solved = time.perf_counter()
    print(f"\n=== The answer\n{result.output!r} ({result.stop_reason}); the host's own calculation: {true_answer()}")
    right = result.output == true_answer()
    as_recorded = not isinstance(model, ReplayModel) or result.output == RECORDED_ANSWER
    held = attack_all()
    print_timings(result, started, solved)
    for good, complaint in (
        (right, "the answer is wrong"),
        (as_recorded, f"the recorded run answered {RECORDED_ANSWER}"),
        (held, "an attack got through"),
    ):
        if not good:
            print(f"FAILED: {complaint}", file=sys.stderr)
    return 0 if right and as_recorded and held else 1


if __name__ == "__main__":
    sys.exit(main())
