"""A function as a tool: the most downloaded model of a model hub. HUB=https://huggingface.co asks the real one.

The function runs on the host with the host's network; the code that calls it has none.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from urllib.parse import urlencode

from _local_web import Answer, Asked, local_web
from _models import chosen_model, code

from cloche import CodeAgent, tool

MODELS = {"acme/sentiment-small": 900, "acme/sentiment-large": 4100, "acme/topics": 1200}
SCRIPT = [code("final_answer(most_downloaded_model('text-classification'))")]


def hub(asked: Asked) -> Answer:
    """The hub's `GET /api/models`, with three models."""
    if asked.path != "/api/models" or asked.query.get("filter") != "text-classification":
        return []
    best = sorted(MODELS, key=lambda name: -MODELS[name])
    return [{"id": name, "downloads": MODELS[name]} for name in best[: int(asked.query["limit"])]]


def make_tool(address: str) -> Callable[..., object]:
    @tool(read_only=True, timeout_s=20)
    def most_downloaded_model(task: str) -> str:
        """The most downloaded model for a task.

        Args:
            task: the hub's name of the task, such as 'text-classification'.
        """
        query = urlencode({"filter": task, "sort": "downloads", "direction": "-1", "limit": "1"})
        with urllib.request.urlopen(f"{address}/api/models?{query}", timeout=15) as answer:  # noqa: S310  # ours
            found = json.load(answer)
        if not found:
            raise ValueError(f"no model for {task!r}")  # the model reads this
        return str(found[0]["id"])

    return most_downloaded_model


def solve(address: str) -> None:
    agent = CodeAgent([make_tool(address)], chosen_model(SCRIPT))
    print("Answer:", agent.run("Which model has the most downloads for the 'text-classification' task?").output)


def main() -> None:
    if "HUB" in os.environ:
        return solve(os.environ["HUB"])
    with local_web(hub) as address:
        return solve(address)


if __name__ == "__main__":
    main()
