"""Bytes to values, safe on hostile bytes: it builds nothing outside the set and counts before it builds."""

from __future__ import annotations

import datetime as dt
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from .value_types import (
    BITS_PER_DIGIT,
    BUILD_S,
    COMPARISONS_PER_ITEM,
    EXTENDED,
    FREE_COMPARISONS,
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
_SALTED = frozenset({str, bytes})
_NUMBERS = frozenset({int, float, bool, type(None)})
_LONG_BUILD, _KEYS_AT_ONCE = 1024, 64
"""A table of more keys is built so many at a time."""
_cpu_s = time.perf_counter if sys.platform == "emscripten" else time.thread_time
"""A guest has no such clock, and nobody to fear: what it decodes its host has written."""
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

    __slots__ = (
        "at", "bits", "built_s", "compared", "decimals", "extended", "left", "limits", "raw", "root",
    )  # fmt: skip

    def __init__(self, raw: bytes | memoryview, limits: ValueLimits, root: str) -> None:
        self.raw = raw
        self.at = 1
        self.limits = limits
        self.left = limits.size
        self.compared = 0
        self.built_s = 0.0
        self.decimals, self.bits = False, 0
        """Whether there are any, and of the largest integer: to compare the two is quadratic in the latter."""
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
        keys, items = found[::2], found[1::2]
        result: dict[object, object] = {}
        try:
            self.charge_keys(keys)
            if len(keys) <= _LONG_BUILD:
                result = dict(zip(keys, items, strict=True))
            else:
                self.build(len(keys), lambda part: result.update(zip(keys[part], items[part], strict=True)))
        except TypeError:
            raise BadValue("dict with an unhashable key") from None
        if len(result) != len(keys):
            raise BadValue("dict with a key twice")
        return result

    def set_of(self, found: list[object], kind: type[set[object] | frozenset[object]]) -> object:
        result = set[object]()
        try:
            self.charge_keys(found)
            if len(found) <= _LONG_BUILD:
                result.update(found)
            else:
                self.build(len(found), lambda part: result.update(found[part]))
        except TypeError:
            raise BadValue("set with an unhashable item") from None
        if len(result) != len(found):
            raise BadValue("set with an item twice")
        return result if kind is set else kind(result)

    def charge_keys(self, keys: list[object]) -> None:
        """Refuse keys that would have to be compared too often, before they are.

        CPython salts the hash of str and bytes; those of numbers, and of what is made of them, anybody can make equal.
        """
        if _SALTED.issuperset(map(type, keys)):
            return
        weak = [key for key in keys if type(key) not in _SALTED]
        hashes = list(map(hash, weak))
        if len(set(hashes)) == len(hashes):
            return
        mixed = self.decimals and not _NUMBERS.issuperset(map(type, weak))
        self.compared += _comparisons(weak, hashes) * (1 + (self.bits // 64) ** 2 if mixed else 1)
        allowed = FREE_COMPARISONS + COMPARISONS_PER_ITEM * ((self.limits.size - self.left) // ITEM_COST)
        if self.compared > allowed:
            raise self.slow_keys(self.compared // COMPARISONS_PER_ITEM * ITEM_COST)

    def build(self, count: int, add: Callable[[slice], object]) -> None:
        """Add keys a few at a time, with a look at the clock: different hashes, too, can be made to meet in a table. So
        no other thread waits for all of them."""
        since = _cpu_s() - self.built_s
        for start in range(0, count, _KEYS_AT_ONCE):
            add(slice(start, start + _KEYS_AT_ONCE))
            if _cpu_s() - since > BUILD_S:
                raise self.slow_keys(0)
        self.built_s = _cpu_s() - since

    def slow_keys(self, used: int) -> ValueTooLarge:
        return ValueTooLarge("value_bytes", max(used, self.limits.size + 1), self.limits.size, f"{self.root}, keys")

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
        self.bits = max(self.bits, bits)
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
            self.decimals = True
        return value

    def too_large(self, missing: int) -> ValueTooLarge:
        return ValueTooLarge("value_bytes", self.limits.size + missing, self.limits.size, self.root)

    def bad_length(self, size: int) -> Exception:
        if size < 0 or size > len(self.raw):
            return BadValue("length outside the value")
        return self.too_large(size)


def _comparisons(keys: list[object], hashes: list[int]) -> int:
    """What a dict of these keys compares, at most: each with all of the same hash, as deep as they are."""
    alike = Counter(hashes)
    costs: dict[int, int] = {}
    for key, number in zip(keys, hashes, strict=True):
        if alike[number] > 1:
            costs[number] = max(costs.get(number, 0), _cost(key))
    return sum(alike[number] * (alike[number] - 1) // 2 * cost for number, cost in costs.items())


def _cost(key: object) -> int:
    """Parts that are compared to tell it from one that is alike. A Decimal beside integers is counted elsewhere."""
    if type(key) is tuple:
        return 1 + sum(map(_cost, key))  # pyright: ignore[reportUnknownArgumentType]
    if type(key) is frozenset:
        members: list[object] = list(key)
        collide = len(set(map(hash, members))) < len(members)
        looks = len(members) ** 2 if collide else len(members)  # each is held against each of its hash
        return 1 + looks * max(map(_cost, members), default=0)
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
