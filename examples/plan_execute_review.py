"""Planner, executor and critic, put together with plain Python: no graph engine, typed answers between them."""

from __future__ import annotations

from _models import chosen_model, code
from pydantic import BaseModel

from cloche import CodeAgent

SALES = [("tea", 3), ("milk", 5), ("tea", 4)]
PLANNER = [code("final_answer(['add up the amounts per item', 'find the item with the largest sum'])")]
EXECUTOR = [
    code("final_answer(max(sales, key=lambda sale: sale[1])[0])"),
    code("""
        from collections import Counter
        sums = Counter()
        for item, amount in sales:
            sums[item] += amount
        final_answer(sums.most_common(1)[0][0])
        """),
]
CRITIC = [
    code("final_answer({'good': False, 'advice': 'Add up per item first.'})"),
    code("final_answer({'good': True, 'advice': ''})"),
]
ROUNDS = 2


class Review(BaseModel):
    good: bool
    advice: str


def main() -> None:
    task = "Which item sold best?"
    planner = CodeAgent([], chosen_model(PLANNER), output_type=list[str])
    executor = CodeAgent([], chosen_model(EXECUTOR), output_type=str)
    critic = CodeAgent([], chosen_model(CRITIC), output_type=Review)

    plan = planner.run(f"Split this task into short steps: {task}", {"sales": SALES}).output
    print("Plan:", plan)
    with executor.conversation() as work, critic.conversation() as reviews:
        order = f"{task} Plan: {plan}"
        for _ in range(ROUNDS):
            answer = work.run(order, {"sales": SALES}).output
            review = reviews.run(f"Is {answer!r} right for: {task}?", {"sales": SALES}).output
            assert isinstance(review, Review)  # noqa: S101  # `output_type` saw to it
            print(f"Answer: {answer}; good: {review.good} {review.advice}")
            if review.good:
                break
            order = f"Try again. {review.advice}"


if __name__ == "__main__":
    main()
