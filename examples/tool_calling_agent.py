"""JSON tool calls instead of code: no sandbox, and the agent can do nothing but call what it was given."""

from __future__ import annotations

from _models import chosen_model

from cloche import ToolCallingAgent, ToolCallRequest, tool
from cloche.agents.models.scripted import Line


@tool(read_only=True)
def multiply(a: int, b: int) -> int:
    """Product of two whole numbers."""
    return a * b


SCRIPT: list[Line] = [
    # Two calls in one reply run side by side.
    [ToolCallRequest("1", "multiply", {"a": 24, "b": 5}), ToolCallRequest("2", "multiply", {"a": 24, "b": 2})],
    ToolCallRequest("3", "final_answer", {"value": "24 * 7 is 24 * 5 + 24 * 2 = 120 + 48 = 168."}),
]


def main() -> None:
    agent = ToolCallingAgent([multiply], chosen_model(SCRIPT))
    result = agent.run("Explain how you would solve 24 * 7 without a calculator, and check the parts.")
    for step in result.steps:
        for call in step.tool_calls:
            print(f"step {step.number}: {call.name}({call.arguments}) {call.outcome}")
    print("Answer:", result.output)


if __name__ == "__main__":
    main()
