"""A code agent that searches the web, reads a page and computes with what it found.

The web is a server on this machine that speaks the formats of the real services; WEB=1 takes the real ones. The tools
would refuse this machine's own address: `rules=` lets them visit this one server.
"""

from __future__ import annotations

import os

from _local_web import local_web, rules_for
from _models import chosen_model, code
from _pages import small_web

from cloche import CodeAgent, Tool
from cloche.agents.toolkit import VisitWebpageTool, WebSearchTool, WikipediaSearchTool

TASK = "What is the capital of Nigeria, and what is 3 times the country's population (approximately)?"
SCRIPT = [
    code("""
        # Find a page about it and see what it looks like.
        results = web_search("Nigeria capital population")
        page = visit_webpage(results[0]["url"])
        print(page)
        """),
    code("""
        # The page has both; Wikipedia can confirm the capital.
        import re
        population = int(re.search(r"Population: (\\d+)", page)[1])
        capital = re.search(r"Capital: (\\w+)", page)[1]
        assert any(capital in article["text"] for article in wikipedia_search(capital))
        final_answer(f"{capital}; 3 x {population:,} = {3 * population:,}")
        """),
]


def solve(*tools: Tool) -> None:
    agent = CodeAgent(tools, chosen_model(SCRIPT))
    result = agent.run(TASK)
    for step in result.steps:
        print(f"step {step.number} called", [call.name for call in step.tool_calls])
    print("Answer:", result.output)


def main() -> None:
    if os.environ.get("WEB") == "1":
        return solve(WebSearchTool(), VisitWebpageTool(), WikipediaSearchTool())
    with local_web(small_web) as address:
        rules = rules_for(address)
        return solve(
            WebSearchTool(f"{address}/lite/", rules=rules),
            VisitWebpageTool(rules),
            WikipediaSearchTool(base_url=f"{address}/w/api.php", rules=rules),
        )


if __name__ == "__main__":
    main()
