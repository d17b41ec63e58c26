"""After a run: every step with code, tool calls and errors; and a second model that reflects on the whole of it."""

from __future__ import annotations

import asyncio

from _models import chosen_model, code

from cloche import CodeAgent, Message, RunResult, transcript

STOCK = {"tea": 3, "milk": 0}
SCRIPT = [
    code("final_answer(stock('Tea'))"),
    code("# Names are in lower case.\nfinal_answer(stock('tea'))"),
]
REFLECTION = ["The first call failed because names are in lower case. The description of `stock` should say so."]


def stock(item: str) -> int:
    """How many of an item are there."""
    if item not in STOCK:
        raise ValueError(f"no item {item!r}; there are {sorted(STOCK)}")
    return STOCK[item]


def report(result: RunResult) -> str:
    """The run as text, for a person or a log."""
    lines: list[str] = []
    for step in result.steps:
        lines.append(f"step {step.number}: {step.reply.usage.total_tokens if step.reply.usage else '?'} tokens")
        lines += [f"    {line}" for line in (step.code or "(no code)").splitlines()]
        lines += [f"  tool {call.name}({call.arguments}): {call.outcome}" for call in step.tool_calls]
        lines += [f"  error {step.error.type}: {step.error.message}"] if step.error else []
    return "\n".join([*lines, f"{result.stop_reason}: {result.output!r}"])


async def reflect(result: RunResult) -> str:
    model = chosen_model(REFLECTION)
    system = "You read the record of an agent's run."
    question = "What went wrong, and what would you change?"
    record = "\n\n".join(f"{message.role}: {message.content}" for message in transcript(result))
    asked = [Message("system", system), Message("user", f"{question}\n\n{record}")]
    return (await model.complete(asked)).text


def main() -> None:
    result = CodeAgent([stock], chosen_model(SCRIPT)).run("How much tea is there?")
    print(report(result))
    print("Reflection:", asyncio.run(reflect(result)))


if __name__ == "__main__":
    main()
