"""The smallest code agent: no tools, one task. The model writes Python, which runs in a sandbox."""

from __future__ import annotations

from _models import chosen_model, code

from cloche import CodeAgent

SCRIPT = [code("# The sum of 1 to 10.\nfinal_answer(sum(range(1, 11)))")]


def main() -> None:
    agent = CodeAgent([], chosen_model(SCRIPT))
    result = agent.run("Calculate the sum of the numbers from 1 to 10.")
    print("It ran:", result.steps[-1].code)
    print("Answer:", result.output)


if __name__ == "__main__":
    main()
