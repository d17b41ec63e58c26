"""An agent with one tool. CLOCHE_MODEL=name (LiteLLM's), and CLOCHE_BASE_URL for an OpenAI-compatible endpoint."""

from __future__ import annotations

import os

from cloche import CodeAgent, LiteLLMModel, Model, OpenAIModel, RunResult, tool

PRICES = {"tea": 3.5, "milk": 1.25, "bread": 2.8}


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
    name, base_url = os.environ["CLOCHE_MODEL"], os.environ.get("CLOCHE_BASE_URL")
    result = solve(OpenAIModel(name, base_url=base_url) if base_url else LiteLLMModel(name))
    print(result.output, result.stop_reason, result.usage)


if __name__ == "__main__":
    main()
