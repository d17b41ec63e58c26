"""Types of a shop, as parameters and results of tools in tests."""

from __future__ import annotations

import dataclasses
import enum

from pydantic import BaseModel


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Row:
    item: str
    count: int = 1


class Order(BaseModel):
    rows: list[Row]
    number: int
