"""Keeps a conversation below the model's window: old observations give way to short summaries of themselves.

The rule: the system prompt, the task and the last steps stay as they are, word for word; what is shortened says so. No
model is asked, unless the caller wants summaries from one. Steps in the result keep everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..runtime.errors import ConfigError
from .messages import Message

CHARS_PER_TOKEN: Final = 3.0
"""On the low side for English with code, so that an estimate is rather too high."""
MESSAGE_TOKENS: Final = 4
"""What a chat template adds to each message."""
IMAGE_TOKENS: Final = 1000
_SHORT_CHARS: Final = 200
"""What is left of an old observation."""
_FILL: Final = 0.6
"""After a compaction the conversation takes at most this part of the room, so that not every step makes one."""
GONE: Final = "\n\n[Earlier steps are left out here to save room.]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """When and how a conversation is shortened."""

    context_tokens: int
    """The model's window, or what of it shall be used. Requests are kept below it by estimate, room for the reply
    included."""
    keep_steps: int = 3
    """The last steps that are never touched (unless they alone overflow the window; then the model's error says so)."""
    summarize: bool = False
    """Ask the model for a summary of what is left out, once per compaction; it costs a request, which is billed."""

    def __post_init__(self) -> None:
        if self.context_tokens < 500 or self.keep_steps < 1:
            raise ConfigError("Compaction: context_tokens is at least 500 and keep_steps at least 1")


class TokenMeter:
    """Estimates requests; learns from what the endpoint counted."""

    def __init__(self) -> None:
        self._known_messages = 0
        self._known_tokens = 0

    def estimate(self, messages: Sequence[Message]) -> int:
        """Tokens of a request with these messages, rather too many than too few."""
        if 0 < self._known_messages <= len(messages):
            return self._known_tokens + self._count(messages[self._known_messages :])
        return self._count(messages)

    def learn(self, messages: Sequence[Message], input_tokens: int) -> None:
        """The endpoint counted `input_tokens` for a request with these messages."""
        self._known_messages, self._known_tokens = len(messages), input_tokens

    def forget(self) -> None:
        """The conversation was rewritten."""
        self._known_messages = 0

    def _count(self, messages: Sequence[Message]) -> int:
        return sum(map(tokens_of, messages))


def tokens_of(message: Message) -> int:
    """Estimated tokens of one message."""
    chars = len(message.content) + sum(len(call.name) + len(str(call.arguments)) for call in message.tool_calls)
    return int(chars / CHARS_PER_TOKEN) + MESSAGE_TOKENS + IMAGE_TOKENS * len(message.images)


def compacted(messages: Sequence[Message], compaction: Compaction, room_tokens: float, task: str) -> list[Message]:
    """The conversation with old observations shortened; where that is not enough, old steps left out altogether.

    Args:
        messages: the conversation.
        compaction: what is to be kept.
        room_tokens: that it may take.
        task: how the message with the task of this run begins; it is kept whole wherever it stands.
    """
    head, tail = middle(messages, compaction)
    old = [message if is_task(message, task) else shortened(message) for message in messages[head:tail]]
    kept = [*messages[:head], *old, *messages[tail:]]
    if sum(map(tokens_of, kept)) <= room_tokens * _FILL:
        return kept
    return without_middle(messages, compaction, GONE, task)


def without_middle(messages: Sequence[Message], compaction: Compaction, note: str, task: str) -> list[Message]:
    """The head and the tail of a conversation, with a note at the end of the head of what was between them.

    The task of this run, if it stood between them, comes after the note.
    """
    head, tail = middle(messages, compaction)
    if tail <= head:
        return list(messages)
    first = list(messages[:head])
    said = [message for message in messages[head:tail] if is_task(message, task)]
    text = "".join([note, *(f"\n\n{message.content}" for message in said)])
    images = tuple(image for message in said for image in message.images)
    if first and first[-1].role == "user":
        last = first[-1]
        first[-1] = replace(last, content=f"{last.content}{text}", images=(*last.images, *images))
    else:
        first.append(Message("user", text.strip(), images=images))
    return [*first, *messages[tail:]]


def is_task(message: Message, task: str) -> bool:
    """Whether it is the message with this run's task."""
    return bool(task) and message.role == "user" and message.content.startswith(task)


def middle(messages: Sequence[Message], compaction: Compaction) -> tuple[int, int]:
    """Where the part that may be shortened starts (after the first task) and ends (before the last steps)."""
    head = next((i for i, message in enumerate(messages) if message.role == "assistant"), len(messages))
    replies = [i for i in range(head, len(messages)) if messages[i].role == "assistant"]
    return head, replies[-compaction.keep_steps] if len(replies) > compaction.keep_steps else head


def shortened(message: Message) -> Message:
    """An old message with little of its text. What the model wrote stays: it is short, and it says what was done."""
    if message.role == "assistant" or len(message.content) <= _SHORT_CHARS + 60:
        return message
    missing = len(message.content) - _SHORT_CHARS
    content = f"{message.content[:_SHORT_CHARS]}\n[{missing} more characters, left out]"
    return replace(message, content=content, images=())
