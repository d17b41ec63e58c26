"""What goes to a model and what comes back: plain frozen data, the same for every model class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from ..runtime.errors import ConfigError

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "other"]
ToolChoice = Literal["auto", "required", "none"]
"""`auto`: the model may call tools. `required`: it has to call one. `none`: it sees them and may not call any."""

IMAGE_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What the endpoints take."""
MAX_IMAGE_BYTES: Final = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message.

    Raises:
        ConfigError: the type is none of `IMAGE_TYPES`, or `data` is not bytes, 1 to `MAX_IMAGE_BYTES` of them.
    """

    data: bytes = field(repr=False)
    """Content of the picture's file."""
    mime: str = "image/png"

    def __post_init__(self) -> None:
        if self.mime not in IMAGE_TYPES:
            raise ConfigError(f"an image is one of {', '.join(IMAGE_TYPES)}, not {self.mime!r:.100}")
        data = cast("object", self.data)
        if not isinstance(data, bytes):
            of_path = f"Image(Path({data!r:.200}).read_bytes(), {self.mime!r})"
            hint = of_path if isinstance(data, str) else f"Image(data, {self.mime!r}) with the bytes of its file"
            raise ConfigError(f"an image is made of bytes, not {type(data).__name__}; write {hint}")
        if not 0 < len(self.data) <= MAX_IMAGE_BYTES:
            raise ConfigError(f"an image has 1 to {MAX_IMAGE_BYTES} bytes, not {len(self.data)}: send a smaller one")


@dataclass(frozen=True, slots=True)
class ToolCallRequest:
    """One call of a tool that a model asks for. Written by the model: check the arguments before they are used."""

    id: str
    """Names the call in the answer (`Message.tool_call_id`); unique within one reply."""
    name: str
    arguments: dict[str, object] = field(default_factory=dict[str, object], hash=False)
    """Plain JSON data."""
    invalid_arguments: str | None = None
    """What the model wrote instead, where that is no JSON object; `arguments` is empty then. Tell it so."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str
    images: tuple[Image, ...] = field(default=(), kw_only=True)
    """Shown after the text; of users and tools only."""
    tool_calls: tuple[ToolCallRequest, ...] = field(default=(), kw_only=True)
    """Of an assistant: the calls that it asked for. A `tool` message has to follow for each."""
    tool_call_id: str | None = field(default=None, kw_only=True)
    """Of a `tool` message: the call that `content` is the result of."""
    echo: Mapping[str, object] | None = field(default=None, kw_only=True, repr=False, hash=False)
    """From `ModelReply.echo`; only the class of model that gave it reads it."""


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as a model sees it."""

    name: str
    description: str
    parameters: dict[str, object] = field(hash=False)
    """JSON schema of an object that holds the arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """Asks for a reply that is JSON and nothing else. Still check it: not every endpoint holds a model to it."""

    schema: dict[str, object] | None = field(default=None, hash=False)
    """JSON schema of the reply; None: any JSON object."""
    name: str = "reply"
    """Letters, digits, `_` and `-`; some endpoints show it to the model."""
    strict: bool = True
    """Have the endpoint hold the model to the schema; it then has to keep to the endpoint's subset of JSON schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens as the endpoint counted them, and what they cost. Adds up with `+`."""

    input_tokens: int = 0
    """All tokens of the request, those read from and written to a cache included."""
    output_tokens: int = 0
    """All tokens of the reply, the reasoning ones included."""
    cached_tokens: int = 0
    """The part of `input_tokens` that came from the endpoint's cache."""
    reasoning_tokens: int = 0
    """The part of `output_tokens` that was hidden reasoning."""
    cache_write_tokens: int = 0
    """The part of `input_tokens` that the endpoint put into its cache (some charge more for these)."""
    cost_usd: float | None = None
    """US dollars by the prices that the model was given, or by LiteLLM's list; None: not known."""

    @property
    def total_tokens(self) -> int:
        """Input and output together; cached and reasoning tokens are in these already."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: TokenUsage) -> TokenUsage:
        """The sum. Its cost is known if both are; no tokens cost nothing, so a sum may start with `TokenUsage()`."""
        return TokenUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cost_usd=_sum_of_costs(self, other),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """One reply of a model."""

    text: str
    usage: TokenUsage | None = None
    """None: the endpoint did not count."""
    finish_reason: FinishReason = "stop"
    """`length`: the reply was cut at a token limit. `tool_calls`: it waits for results of tools."""
    tool_calls: tuple[ToolCallRequest, ...] = ()
    echo: Mapping[str, object] | None = field(default=None, repr=False, hash=False)
    """What the endpoint wants to see again in the next request (signed reasoning); plain JSON data."""
    response_id: str | None = field(default=None, compare=False)
    """The endpoint's name of this reply, for logs."""
    response_model: str | None = field(default=None, compare=False)
    """The model that the endpoint says it used, for logs."""

    @property
    def message(self) -> Message:
        """The reply as the next message of the conversation."""
        return Message("assistant", self.text, tool_calls=self.tool_calls, echo=self.echo)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """All that one call of `Model.complete` asks for, as one value."""

    messages: tuple[Message, ...]
    stop: tuple[str, ...] = ()
    tools: tuple[ToolSchema, ...] = ()
    tool_choice: ToolChoice | None = None
    """None: the endpoint's default."""
    response_format: ResponseFormat | None = None
    max_tokens: int | None = None
    """None: the model object's own limit, or the endpoint's."""


def _sum_of_costs(one: TokenUsage, other: TokenUsage) -> float | None:
    costs = [usage.cost_usd for usage in (one, other) if usage.cost_usd is not None or usage.total_tokens]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None
