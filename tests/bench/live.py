"""Ten small tasks with a real model: how many it solves, in how many steps, with how many tokens.

The rule: nothing here tells the model more than the shipped prompt does, and only the answer is judged, never the text.
Needs an endpoint for chat completions: `CLOCHE_MODEL_URL=http://127.0.0.1:8091/v1 python -m tests.bench --only live`;
`CLOCHE_MODEL` names the model, `CLOCHE_MODEL_KEY` is its key. Without an address there are no figures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cloche import CodeAgent, ModelError, OpenAIModel

from .measure import Figure

Progress = Callable[[str], None]
RUNS: Final = 3
MAX_STEPS: Final = 6
TIMEOUT_S: Final = 900.0
"""A small model on one core of a busy machine takes its time."""


def get_price(item: str) -> float:
    """Returns the price of one item in dollars.

    Args:
        item: The name of the item.
    """
    return {"apple": 1.25, "bread": 2.5, "milk": 3.0}[item.lower()]


def get_numbers() -> list[int]:
    """Returns a list of numbers."""
    return [17, 981, 204, 5, 633]


@dataclass(frozen=True)
class Task:
    text: str
    answer: object
    """A number: the last one in the answer has to be it. A text: the answer has to hold it. A list: its numbers."""
    tools: tuple[Callable[..., object], ...] = ()


TASKS: Final = (
    Task("What is the sum of the integers from 1 to 10?", 55),
    Task("What is 24 * 7?", 168),
    Task("How many letters are in the word 'elephant'?", 8),
    Task(
        "Use the get_price tool to get the price of 'apple', 'bread' and 'milk', and return the total of the three "
        "prices.",
        6.75,
        (get_price,),
    ),
    Task("Reverse the string 'hello world' and return the reversed string.", "dlrow olleh"),
    Task("Return the list of all prime numbers below 50.", [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47]),
    Task('Parse this JSON string and return the sum of the scores: \'{"name": "Ada", "scores": [3, 9, 4]}\'', 16),
    Task("Use the get_numbers tool to get a list of numbers and return the largest one.", 981, (get_numbers,)),
    Task("How many days are there between 2024-02-10 and 2024-03-15?", 34),
    Task("What is the 20th Fibonacci number, where the 1st and the 2nd are both 1?", 6765),
)


def figures(progress: Progress) -> Iterator[Figure]:
    """Nothing without an address."""
    address = os.environ.get("CLOCHE_MODEL_URL")
    if not address:
        progress("live: no CLOCHE_MODEL_URL, no figures")
        return
    name = os.environ.get("CLOCHE_MODEL", "local")
    model = OpenAIModel(
        name, base_url=address, api_key=os.environ.get("CLOCHE_MODEL_KEY", ""), timeout_s=TIMEOUT_S, temperature=0.0
    )
    outcomes = [solve(task, model, progress) for _ in range(RUNS) for task in TASKS]
    mode = f"model {name}"
    right = float(sum(outcome.is_right for outcome in outcomes))
    yield Figure(f"of {len(outcomes)} answers to ten tasks, how many are right", mode, "count", [right], ">= 29")
    yield Figure("steps of a task", mode, "count", [outcome.steps for outcome in outcomes], "1")
    yield Figure("tokens of a task's requests", mode, "tokens", [outcome.tokens_in for outcome in outcomes])
    yield Figure("tokens of a task's replies", mode, "tokens", [outcome.tokens_out for outcome in outcomes])


@dataclass(frozen=True)
class Solved:
    is_right: bool
    steps: float
    tokens_in: float
    tokens_out: float


def solve(task: Task, model: OpenAIModel, progress: Progress) -> Solved:
    """One task, by an agent of its own."""
    agent = CodeAgent(list(task.tools), model, max_steps=MAX_STEPS)
    try:
        result = agent.run(task.text)
    except ModelError as exc:
        progress(f"live: {type(exc).__name__}: {exc}")
        return Solved(False, MAX_STEPS, 0, 0)
    good = is_right(result.output, task.answer)
    progress(f"live: {'right' if good else 'WRONG'} in {len(result.steps)}: {task.text[:50]} {result.output!r:.60}")
    return Solved(good, len(result.steps), result.usage.input_tokens, result.usage.output_tokens)


def is_right(answer: object, wanted: object) -> bool:
    """Whether the answer says what is wanted, in whatever form."""
    if isinstance(wanted, str):
        return wanted in str(answer)
    numbers = [float(text) for text in re.findall(r"-?\d+(?:\.\d+)?", str(answer).replace(", ", " ").replace(",", ""))]
    if isinstance(wanted, list):
        return numbers == wanted
    return bool(numbers) and isinstance(wanted, int | float) and abs(numbers[-1] - wanted) < 1e-6
