"""What encoder and decoder of values share: errors, limits, prices. Standard library only; the guest has it too."""

from __future__ import annotations

from decimal import Decimal

PLAIN, EXTENDED = 0, 1

ITEM_COST = 64
"""Host bytes charged for any object, about what CPython's small ones take with their slot in a container."""
BITS_PER_DIGIT = 3.3219280948873626
MARSHAL_DIGIT_BITS = 15
COMPARISONS_PER_ITEM = 32
"""How many comparisons of keys with equal hashes a value may cost while it is built, for each `ITEM_COST` that it was
charged. Honest ones hardly come near: -1 and -2 have one hash, so have points of a grid around zero, and among powers
of two there are 61 hashes."""
FREE_COMPARISONS = 20_000
"""Beside those: half a millisecond, for a small value whose keys all collide."""
BUILD_S = 0.5
"""CPU seconds that large dicts and sets of a value may take to be built. A hundred thousand keys take 0.02."""


class CrossError(Exception):
    """A value may not cross: what is wrong and where it sits."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason
        self.path = path


class ValueTooLarge(CrossError):
    """A value breaks a limit; `limit` is the field of `Limits`."""

    def __init__(self, limit: str, used: float, allowed: float, path: str) -> None:
        super().__init__(f"{limit} of {allowed} exceeded ({used})", path)
        self.limit = limit
        self.used = used
        self.allowed = allowed


class BadValue(Exception):
    """Bytes that no encoder of ours writes."""


class ValueLimits:
    """Bounds of one value. `size` counts host bytes of the decoded form."""

    __slots__ = ("depth", "digits", "int_bits", "size")

    def __init__(self, size: int = 16 * 1024 * 1024, depth: int = 100, digits: int = 4300) -> None:
        self.size = size
        self.depth = depth
        self.digits = digits
        self.int_bits = int(digits * BITS_PER_DIGIT) + 1

    def fits(self, value: int) -> bool:
        """Whether an integer has at most `digits` decimal digits. Exact: one more, and `str()` of a host refuses it."""
        bits = value.bit_length()
        return bits < self.int_bits or (bits == self.int_bits and abs(value) < 10**self.digits)


def check_decimal(value: Decimal, limits: ValueLimits, path: str) -> None:
    """Digits count whether they are written or only implied: `int(Decimal("1E999999999"))` would fill the host."""
    exponent = value.as_tuple().exponent
    size = abs(exponent) if isinstance(exponent, int) else 0
    used = max(len(str(value)), size)
    if used > limits.digits:
        raise ValueTooLarge("int_digits", used, limits.digits, path)
