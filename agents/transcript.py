"""A run as messages for a second model: a judge, a summariser, the next agent. Text and images, no tool calls.

The rule: roles stay as they were said, so what a model wrote stands as `assistant` and everything else as `user`; two
messages of one role in a row become one, because some chat templates refuse two. Tool calls become text, so that the
reader needs no tools. Nothing here is a wall: what a guest printed is in the text and may talk to the reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from .messages import Message, Role
from .result import ActionStep, AnyStep, FinalAnswerStep, PlanningStep, RunResult, TaskStep

SUMMARY_CHARS: Final = 300
"""Of an observation in summary mode."""
_CUT: Final = " [...]"


def transcript(
    run: RunResult | Sequence[AnyStep], *, summary: bool = False, system: str | None = None, max_chars: int = 20_000
) -> tuple[Message, ...]:
    """What happened, as messages.

    Args:
        run: the result, or steps of a trace.
        summary: leave out plans, thoughts and what the model said beside its code, and shorten observations: what was
            asked, what was done, what came out.
        system: the first message, such as what the second model is to do with it. The prompt of the run is not in it.
        max_chars: of one part; what is longer loses its middle.
    """
    trace = (run.trace or run.steps) if isinstance(run, RunResult) else run
    said = [Message("system", system)] if system else []
    for step in trace:
        for message in _messages(step, summary):
            said = _joined(said, replace(message, content=_shortened(message.content, max_chars)))
    return tuple(said)


def _messages(step: AnyStep, summary: bool) -> Iterable[Message]:
    match step:
        case TaskStep():
            inputs = "".join(f"\n- {name}: {preview}" for name, preview in step.inputs.items())
            yield Message("user", f"Task: {step.task}" + (f"\nInputs:{inputs}" if inputs else ""), images=step.images)
        case PlanningStep():
            if not summary:
                yield Message("assistant", f"Plan:\n{step.plan}")
        case ActionStep():
            yield from _action(step, summary)
        case FinalAnswerStep():
            yield Message("assistant", f"Final answer: {step.output!r}")


def _action(step: ActionStep, summary: bool) -> Iterable[Message]:
    said = _done(step) if summary else step.reply.text or _done(step)
    if not summary and step.reply.text and step.reply.tool_calls:
        said = f"{said}\n{_calls(step)}"
    if said:
        yield Message("assistant", said)
    seen = step.observation
    if not seen and step.error is not None:
        seen = f"{step.error.type}: {step.error.message}"
    if seen:
        yield Message("user", f"Observation:\n{_shortened(seen, SUMMARY_CHARS) if summary else seen}")


def _done(step: ActionStep) -> str:
    """The code, else the calls, else nothing: a reply that held neither."""
    return f"```python\n{step.code}\n```" if step.code is not None else _calls(step)


def _calls(step: ActionStep) -> str:
    return "\n".join(f"Calls {call.name} with {call.arguments}" for call in step.reply.tool_calls)


def _joined(said: list[Message], message: Message) -> list[Message]:
    if not said or said[-1].role != message.role or message.role == "system":
        return [*said, message]
    last = said[-1]
    both = replace(last, content=f"{last.content}\n\n{message.content}", images=(*last.images, *message.images))
    return [*said[:-1], both]


def _shortened(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    head = max_chars * 2 // 3
    tail = max(0, max_chars - head - len(_CUT))
    return text[:head] + _CUT + (text[-tail:] if tail else "")


def as_text(messages: Sequence[Message]) -> str:
    """The messages as one text with a heading for each, for a log or a prompt."""
    names: dict[Role, str] = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}
    return "\n\n".join(
        f"## {names[message.role]}\n{message.content}" + f"\n({len(message.images)} images)" * bool(message.images)
        for message in messages
    )
