"""An agent with one tool. `--model NAME` runs it live; else the model's words are scripted."""

from __future__ import annotations

from _models import chosen_model, code

from cloche import CodeAgent, Model, RunResult, tool

PRICES = {"tea": 3.5, "milk": 1.25, "bread": 2.8}
SCRIPT = [code("final_answer(get_price('tea') + get_price('milk'))")]


@tool
def get_price(item: str) -> float:
    """Price of an item in euros.

    Args:
        item: name of the item, lower case.
    """
    return PRICES[item]


def solve(model: Model) -> RunResult:
    agent = CodeAgent(tools=[get_price], model=model)
    return agent.run("What do tea and milk cost together?")


def main() -> None:
    result = solve(chosen_model(SCRIPT))
    print(result.output, result.stop_reason, result.usage)


if __name__ == "__main__":
    main()
