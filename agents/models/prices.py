"""`Prices`: what the tokens of a model cost. Given by the user: no table of ours could stay right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ...runtime.errors import ConfigError
from ..messages import ModelReply, TokenUsage

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars per million tokens.

    Raises:
        ConfigError: a price is no number from 0.
    """

    input: float
    output: float
    """Reasoning tokens are output."""
    cached: float | None = None
    """Input that came from the endpoint's cache; None: as other input."""
    cache_write: float | None = None
    """Input that was put into the cache; None: as other input."""

    def __post_init__(self) -> None:
        for price in (self.input, self.output, self.cached, self.cache_write):
            if price is not None and not 0 <= price < math.inf:
                raise ConfigError(f"Prices: US dollars per million tokens, a number from 0, not {price!r:.100}")

    def cost_usd(self, input_tokens: float, output_tokens: float) -> float:
        """What that many tokens cost, none of them cached."""
        return (input_tokens * self.input + output_tokens * self.output) / _MILLION

    def cost_of(self, usage: TokenUsage) -> float:
        """What the tokens of a reply cost in US dollars, each charged once and at its own price."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_write is None else self.cache_write
        plain_tokens = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
        apart = usage.cached_tokens * cached + usage.cache_write_tokens * written
        return self.cost_usd(plain_tokens, usage.output_tokens) + apart / _MILLION


PriceTable = Prices | Mapping[str, Prices]
"""The prices of the model, or of several by name, where one object may use several models."""


def with_cost(reply: ModelReply, table: PriceTable | None, name: str) -> ModelReply:
    """The reply with its cost, if its tokens were counted and the table has its model, by the name that was asked for
    or by the one that the endpoint gave."""
    if reply.usage is None or table is None:
        return reply
    prices = table if isinstance(table, Prices) else table.get(name) or table.get(reply.response_model or "")
    if prices is None:
        return reply
    return replace(reply, usage=replace(reply.usage, cost_usd=prices.cost_of(reply.usage)))
