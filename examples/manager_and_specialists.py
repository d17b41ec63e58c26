"""A manager that calls tools only, and two specialists that write code, each in a sandbox of its own.

The manager pays: what the specialists spend comes out of its budget. At the end the host runs the script that came
out, in a sandbox too.
"""

from __future__ import annotations

from collections.abc import Sequence

from _local_web import local_web, rules_for
from _models import chosen_model, code
from _pages import small_web

from cloche import Budget, CodeAgent, Message, Sandbox, ToolCallingAgent, ToolCallRequest
from cloche.agents.models.scripted import Line
from cloche.agents.toolkit import VisitWebpageTool, WebSearchTool

TASK = "Build a small Python script that prints the latest AI news headline and the number of characters in it."
RESEARCH = [
    code("""
        page = visit_webpage(web_search("latest AI headline")[0]["url"])
        final_answer(page.partition("Latest headline: ")[2].strip())
        """)
]
CODING = [code("""final_answer(f"headline = {headline!r}\\nprint(headline, len(headline))")""")]


def hand_on(messages: Sequence[Message]) -> ToolCallRequest:
    """The manager has read the headline and orders the script."""
    task = "Write a script that prints the headline in `headline` and its length. Answer with the code only."
    return ToolCallRequest("2", "write_code", {"task": task, "inputs": {"headline": messages[-1].content}})


MANAGER: list[Line] = [
    ToolCallRequest("1", "research", {"task": "What is the latest AI news headline? Answer with the headline only."}),
    hand_on,
    lambda messages: ToolCallRequest("3", "final_answer", {"value": messages[-1].content}),
]


def main() -> None:
    with local_web(small_web) as address:
        rules = rules_for(address)
        researcher = CodeAgent(
            [WebSearchTool(f"{address}/lite/", rules=rules), VisitWebpageTool(rules)],
            chosen_model(RESEARCH),
            name="research",
            description="Investigates a question by web search.",
        )
        coder = CodeAgent([], chosen_model(CODING), name="write_code", description="Writes Python code for a spec.")
        manager = ToolCallingAgent(
            [],
            chosen_model(MANAGER),
            managed_agents=[researcher, coder],
            output_type=str,
            budget=Budget(steps=20, tool_calls=40, sandbox_s=120),
        )
        result = manager.run(TASK)
    print(f"{result.spent.steps} steps of all three agents")
    print(result.output)
    with Sandbox() as box:
        print("It prints:", box.run(str(result.output)).stdout.strip())


if __name__ == "__main__":
    main()
