"""What a run tells while it goes on, and how to stop it. `--model NAME` runs it live."""

from __future__ import annotations

from _models import chosen_model

from cloche import CodeAgent, Model
from cloche.agents.events import CodeParsed, OutputChunk, RunFinished, StepFinished

SCRIPT = [
    "```python\n# The readings first.\nprint(len(readings), min(readings), max(readings))\n```",
    "```python\nmean = sum(readings) / len(readings)\nfinal_answer(round(mean, 1))\n```",
]


def watch(model: Model) -> list[str]:
    """The run as lines of text."""
    agent = CodeAgent(tools=[], model=model)
    lines: list[str] = []
    with agent.stream("What is the mean of the readings?", inputs={"readings": [12.5, 14.0, 13.1]}) as events:
        for event in events:
            match event:
                case CodeParsed(step, _, code):
                    lines.append(f"step {step} runs {len(code.splitlines())} lines")
                case OutputChunk(_, stream, text):
                    lines.append(f"{stream}: {text.strip()}")
                case StepFinished(step) if step.number >= 5:
                    events.cancel()  # the run ends in order, with stop_reason "cancelled"
                case RunFinished(result):
                    lines.append(f"{result.stop_reason}: {result.output}")
                case _:
                    pass
    return lines


if __name__ == "__main__":
    print(*watch(chosen_model(SCRIPT)), sep="\n")
