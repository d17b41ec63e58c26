"""What one step does with the model's reply: `code_actor.py` runs code, `tool_actor.py` calls tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .messages import Message, ModelReply
from .result import ActionStep


class Actor(Protocol):
    """Acts on replies, for one run."""

    request: Mapping[str, object]
    """Options of each request: tools, response format."""
    aside: Mapping[str, object]
    """Options of requests for words: plans, last answers."""

    def said(self, reply: ModelReply) -> Message:
        """The reply as a message of the conversation."""
        ...

    async def act(self, reply: ModelReply, step: ActionStep) -> tuple[ActionStep, list[Message]]:
        """Do what the reply says; the step with what came of it, and what the model is told."""
        ...
