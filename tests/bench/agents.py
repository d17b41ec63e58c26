"""Agents: what the loop itself costs per step, and a hundred runs at once on one machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from cloche import AsyncRuntime, Cell, CodeAgent, Message, RunResult, ScriptedModel, Tool

from .measure import Figure

Progress = Callable[[str], None]
RUNS: Final = 100
STEPS: Final = 10
LONE_STEPS: Final = 200
FILL_S: Final = 60.0
"""Seconds for the pool to fill."""


def figures(rounds: int, progress: Progress) -> Iterator[Figure]:
    yield overhead(rounds, progress)
    yield from asyncio.run(at_once(max(3, rounds // 6), progress))


# --- the loop alone ---------------------------------------------------------------------------------------------------


class NoSandbox:
    """Gives back the same cell at once, so that what is left is the loop's own work."""

    async def run(self, *args: object, **options: object) -> Cell:
        return Cell(stdout="1\n")

    async def reset(self) -> None:
        raise AssertionError("nothing is lost")


@asynccontextmanager
async def no_sandbox(tools: Sequence[Tool]) -> AsyncGenerator[NoSandbox]:
    yield NoSandbox()


def overhead(rounds: int, progress: Progress) -> Figure:
    """Microseconds per step of a run without events, whose model and sandbox take next to no time."""
    agent = CodeAgent(
        [double], ScriptedModel([block("print(1)")] * LONE_STEPS), sandbox=no_sandbox, max_steps=LONE_STEPS
    )
    values: list[float] = []
    for number in range(rounds):
        progress(f"overhead, round {number + 1} of {rounds}")
        timing = agent.run("Count.").timing
        values.append((timing.total_s - timing.model_s) / LONE_STEPS * 1e6)
    return Figure("framework overhead per step, model and cell excluded", "no sandbox", "us", values, "<= 2000 us")


# --- many at once -----------------------------------------------------------------------------------------------------


async def at_once(rounds: int, progress: Progress) -> list[Figure]:
    """Runs side by side, one warm worker each; every answer is checked."""
    rates: list[float] = []
    async with AsyncRuntime(max_sandboxes=2 * RUNS, warm_workers=RUNS, max_workers=2 * RUNS + 10) as runtime:
        async with runtime.sandbox() as box:  # the pool fills from the first lease on
            await box.run("1")
        agent = CodeAgent([double], ScriptedModel(script()), runtime=runtime)
        for number in range(rounds):
            progress(f"{RUNS} runs at once, round {number + 1} of {rounds}")
            await filled(runtime)
            started = time.perf_counter()
            results = await asyncio.gather(*(agent.arun(f"Start at {n}") for n in range(RUNS)))
            rates.append(RUNS * STEPS / (time.perf_counter() - started))
            check(results)
    return [
        Figure(
            f"{RUNS} runs of {STEPS} steps at once, a sandbox each, pool filled beforehand",
            "process",
            "steps/s",
            rates,
            ">= 300 steps/s",
            note="every answer right and its own; each step but the last calls a host tool and prints",
        )
    ]


def script() -> list[str | Callable[[Sequence[Message]], str]]:
    def first(messages: Sequence[Message]) -> str:
        return block(f"mine = {messages[1].content.split()[-1]}\nprint(double(mine))")

    return [first, *[block("mine += 1\nprint(double(mine))")] * (STEPS - 2), block("final_answer(mine)")]


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def block(code: str) -> str:
    return f"```python\n{code}\n```"


async def filled(runtime: AsyncRuntime) -> None:
    give_up_at = time.monotonic() + FILL_S
    while runtime.warm_workers < RUNS:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{runtime.warm_workers} of {RUNS} workers are warm")
        await asyncio.sleep(0.05)


def check(results: Sequence[RunResult]) -> None:
    """Each run gave its own answer and saw its own numbers."""
    for n, result in enumerate(results):
        last = result.steps[-2].cell
        expected = n + STEPS - 2
        if result.output != expected or last is None or last.stdout != f"{2 * expected}\n":
            raise AssertionError(f"run {n} gave {result.output!r}")
