"""What goes to a model and what comes back: plain frozen data, the same for every model class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "other"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens as the endpoint counted them. Adds up with `+`."""

    input_tokens: int = 0
    """All tokens of the request, the cached ones included."""
    output_tokens: int = 0
    """All tokens of the reply, the reasoning ones included."""
    cached_tokens: int = 0
    """The part of `input_tokens` that came from the endpoint's cache."""
    reasoning_tokens: int = 0
    """The part of `output_tokens` that was hidden reasoning."""

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """One reply of a model."""

    text: str
    usage: TokenUsage | None = None
    """None: the endpoint did not count."""
    finish_reason: FinishReason = "stop"
    """`length`: the reply was cut at a token limit."""
