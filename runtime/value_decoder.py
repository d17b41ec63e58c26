"""Bytes to values, safe on hostile bytes: it builds nothing outside the set and counts before it builds."""

from __future__ import annotations

import datetime as dt
import struct
from collections import Counter
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from .value_types import (
    BITS_PER_DIGIT,
    COMPARISONS_PER_ITEM,
    EXTENDED,
    FEW_KEYS,
    ITEM_COST,
    MARSHAL_DIGIT_BITS,
    BadValue,
    ValueLimits,
    ValueTooLarge,
    check_decimal,
)

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# `type(value) is dict` narrows to dict[Unknown, Unknown]; each part is looked at by its own type before it is used.

_I32 = struct.Struct("<i").unpack_from
_F64 = struct.Struct("<d").unpack_from
_TEXT, _INT, _FLOAT, _BYTES, _LONG = b"uigsl"
_LIST, _TUPLE, _SET, _DICT, _END = b"[(<{0"
_OPENERS = frozenset(b"[(<>{")
_LARGE = 16 * 1024
_BITS_AT_ONCE = 2048
"""Of two large integers that are compared, most differ at their first digits."""


def decode(data: bytes | memoryview, limits: ValueLimits, root: str = "value") -> object:
    """The value that the bytes stand for. Safe on hostile bytes.

    Raises:
        BadValue: bytes outside the format.
        ValueTooLarge: well formed as far as it was read, but over a limit.
    """
    return decode_counted(data, limits, root)[0]


def decode_counted(data: bytes | memoryview, limits: ValueLimits, root: str = "value") -> tuple[object, int]:
    """As `decode`, and the host bytes that the value was charged."""
    # A copy is quicker to index; of a large value the copy itself is what costs.
    raw = bytes(data) if len(data) < _LARGE else data
    if not raw or raw[0] > EXTENDED:
        raise BadValue("unknown value format")
    if len(raw) > limits.size:
        raise ValueTooLarge("value_bytes", len(raw), limits.size, root)
    decoder = _Decoder(raw, limits, root)
    try:
        value = decoder.whole()
    except (IndexError, struct.error):
        raise BadValue("cut in the middle of a value") from None
    except UnicodeDecodeError:
        raise BadValue("text is not UTF-8") from None
    except RecursionError:  # as in `encode`
        raise ValueTooLarge("value_depth", limits.depth + 1, limits.depth, root) from None
    if decoder.at != len(raw):
        raise BadValue("bytes after the value")
    return value, limits.size - decoder.left


class _Decoder:
    """Reads one value from the front; charges each part to the budget before it is built."""

    __slots__ = ("at", "compared", "extended", "left", "limits", "raw", "root")

    def __init__(self, raw: bytes | memoryview, limits: ValueLimits, root: str) -> None:
        self.raw = raw
        self.at = 1
        self.limits = limits
        self.left = limits.size
        self.compared = 0
        self.root = root
        self.extended = raw[0] == EXTENDED

    def whole(self) -> object:
        """The value at the top."""
        tag = self.raw[1]
        if tag not in _OPENERS:
            return self.items(1, 0)[0]
        self.at = 2
        self.left -= ITEM_COST
        return self.nested(tag, 0)

    def items(self, count: int, depth: int) -> list[object]:
        """The next `count` values, or with -1 all up to the end mark of a dict. The hot loop of the host.

        An index outside the bytes raises IndexError or struct.error, which `decode` translates.
        """
        raw, at, left = self.raw, self.at, self.left
        found: list[object] = []
        while count:
            tag = raw[at]
            left -= ITEM_COST
            if tag == _TEXT:
                start = at + 5
                at = start + _I32(raw, at + 1)[0]
                if not 0 <= at - start <= left:
                    raise self.bad_length(at - start)
                text = str(raw[start:at], "utf-8")
                left -= at - start if text.isascii() else 4 * len(text)
                found.append(text)
            elif tag == _INT:
                found.append(_I32(raw, at + 1)[0])
                at += 5
            elif tag == _FLOAT:
                found.append(_F64(raw, at + 1)[0])
                at += 9
            elif tag == _END and count < 0:
                left += ITEM_COST
                at += 1
                break
            else:
                self.at, self.left = at + 1, left
                found.append(self.nested(tag, depth) if tag in _OPENERS else self.rare(tag))
                at, left = self.at, self.left
            if left < 0:
                raise self.too_large(-left)
            count -= 1
        if at > len(raw):
            raise IndexError
        self.at, self.left = at, left
        return found

    def nested(self, tag: int, depth: int) -> object:
        if depth >= self.limits.depth:
            raise ValueTooLarge("value_depth", depth + 1, self.limits.depth, self.root)
        if tag == _DICT:
            if self.raw[self.at] == _END:
                self.at += 1
                return {}
            return self.mapping(self.items(-1, depth + 1))
        count: int = _I32(self.raw, self.at)[0]
        self.at += 4
        if count < 0:
            raise BadValue("negative length")
        if count * ITEM_COST > self.left:
            raise self.too_large(count * ITEM_COST - self.left)
        if count > len(self.raw) - self.at:
            raise BadValue("container longer than its bytes")
        found = self.items(count, depth + 1) if count else []
        if tag == _LIST:
            return found
        return tuple(found) if tag == _TUPLE else self.set_of(found, set if tag == _SET else frozenset)

    def mapping(self, found: list[object]) -> dict[object, object]:
        """A dict of keys and items in turn."""
        if len(found) % 2:
            raise BadValue("dict with a key alone")
        pairs = iter(found)
        try:
            if len(found) > 2 * FEW_KEYS:
                self.charge_hashes(found[::2])
            result = dict(zip(pairs, pairs, strict=False))
        except TypeError:
            raise BadValue("dict with an unhashable key") from None
        if 2 * len(result) != len(found):
            raise BadValue("dict with a key twice")
        return result

    def set_of(self, found: list[object], kind: type[set[object] | frozenset[object]]) -> object:
        try:
            if len(found) > FEW_KEYS:
                self.charge_hashes(found)
            result = kind(found)
        except TypeError:
            raise BadValue("set with an unhashable item") from None
        if len(result) != len(found):
            raise BadValue("set with an item twice")
        return result

    def charge_hashes(self, keys: list[object]) -> None:
        """Refuse what would take long to build, before it is."""
        self.compared += _comparisons(keys)
        allowed = COMPARISONS_PER_ITEM * ((self.limits.size - self.left) // ITEM_COST)
        if self.compared > allowed:
            used = self.compared // COMPARISONS_PER_ITEM * ITEM_COST
            raise ValueTooLarge("value_bytes", max(used, self.limits.size + 1), self.limits.size, f"{self.root}, keys")

    def rare(self, tag: int) -> object:
        if tag in _SINGLETONS:
            return _SINGLETONS[tag]
        if tag == _BYTES:
            return self.take(self.length())
        if tag == _LONG:
            return self.integer()
        if self.extended and tag in _EXTENDED:
            return self.tagged(_EXTENDED[tag])
        raise BadValue("unknown tag")

    def length(self) -> int:
        value: int = _I32(self.raw, self.at)[0]
        if value < 0:
            raise BadValue("negative length")
        self.at += 4
        return value

    def take(self, count: int) -> bytes:
        at = self.at
        if count > len(self.raw) - at:
            raise BadValue("cut in the middle of a value")
        self.left -= count
        self.at = at + count
        return bytes(self.raw[at : self.at])

    def integer(self) -> int:
        count: int = _I32(self.raw, self.at)[0]
        self.at += 4
        bits = abs(count) * MARSHAL_DIGIT_BITS
        if bits - MARSHAL_DIGIT_BITS >= self.limits.int_bits:
            raise ValueTooLarge("int_digits", int(bits / BITS_PER_DIGIT), self.limits.digits, self.root)
        digits = struct.unpack(f"<{abs(count)}H", self.take(2 * abs(count)))
        if not digits or digits[-1] == 0 or max(digits) >> MARSHAL_DIGIT_BITS:
            raise BadValue("malformed integer")
        # A power of two as the base: linear in the digits, where shifting them in one by one is quadratic.
        value = int("".join([format(digit, "015b") for digit in reversed(digits)]), 2)
        if not self.limits.fits(value):
            raise ValueTooLarge("int_digits", int(bits / BITS_PER_DIGIT) + 1, self.limits.digits, self.root)
        return -value if count < 0 else value

    def tagged(self, build: Callable[[str], object]) -> object:
        count = self.take(1)[0]
        self.left += 1
        if count == 255:
            count = self.length()
        if count > self.limits.digits + 64:
            raise ValueTooLarge("int_digits", count, self.limits.digits, self.root)
        try:
            value = build(self.take(count).decode("ascii"))
        except (ValueError, InvalidOperation, OverflowError):
            raise BadValue("malformed date, time or decimal") from None
        if type(value) is Decimal:
            check_decimal(value, self.limits, self.root)
        return value

    def too_large(self, missing: int) -> ValueTooLarge:
        return ValueTooLarge("value_bytes", self.limits.size + missing, self.limits.size, self.root)

    def bad_length(self, size: int) -> Exception:
        if size < 0 or size > len(self.raw):
            return BadValue("length outside the value")
        return self.too_large(size)


def _comparisons(keys: list[object]) -> int:
    """What a dict of these keys compares, at most: each with all of the same hash, as deep as they are.

    CPython salts the hash of str and bytes; those of numbers, and of tuples of numbers, anybody can make equal.
    """
    weak = [key for key in keys if type(key) is not str and type(key) is not bytes]
    alike = Counter(map(hash, weak))
    if len(alike) == len(weak):
        return 0
    depths: dict[int, int] = {}
    for key in weak:
        number = hash(key)
        if alike[number] > 1:
            depths[number] = max(depths.get(number, 0), _depth(key))
    return sum(alike[number] * (alike[number] - 1) // 2 * depth for number, depth in depths.items())


def _depth(key: object) -> int:
    """Parts that are looked at to tell it from an equal one."""
    if type(key) is tuple or type(key) is frozenset:
        return 1 + sum(map(_depth, key))  # pyright: ignore[reportUnknownArgumentType]
    return 1 + key.bit_length() // _BITS_AT_ONCE if type(key) is int else 1


def _read_datetime(text: str) -> dt.datetime:
    iso, fold, *offset = text.split(";", 2)
    return dt.datetime.fromisoformat(iso).replace(fold=int(fold), tzinfo=_read_zone(*offset))


def _read_time(text: str) -> dt.time:
    iso, fold, *offset = text.split(";", 2)
    return dt.time.fromisoformat(iso).replace(fold=int(fold), tzinfo=_read_zone(*offset))


def _read_zone(text: str = "") -> dt.timezone | None:
    return dt.timezone(_read_delta(text)) if text else None


def _read_delta(text: str) -> dt.timedelta:
    days, seconds, microseconds = (int(part) for part in text.split(";"))
    return dt.timedelta(days, seconds, microseconds)


def _read_decimal(text: str) -> Decimal:
    return Decimal(text)


_SINGLETONS: dict[int, object] = {ord("N"): None, ord("T"): True, ord("F"): False}
_EXTENDED: dict[int, Callable[[str], object]] = {
    ord("d"): _read_decimal,
    ord("m"): _read_datetime,
    ord("D"): dt.date.fromisoformat,
    ord("h"): _read_time,
    ord("e"): _read_delta,
    ord("z"): lambda text: dt.timezone(_read_delta(text)),
}
