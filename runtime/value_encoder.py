"""Values to bytes. See values.py for the format."""

from __future__ import annotations

import datetime as dt
import marshal  # noqa: TID251  # only to write; see values.py
import struct
from collections.abc import Callable, Iterable
from decimal import Decimal

from .value_decoder import decode
from .value_forms import fields_of, is_record, plain_form
from .value_types import (
    BITS_PER_DIGIT,
    EXTENDED,
    ITEM_COST,
    MARSHAL_DIGIT_BITS,
    BadValue,
    CrossError,
    ValueLimits,
    ValueTooLarge,
    check_decimal,
)

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# `type(value) is dict` narrows to dict[Unknown, Unknown]; each part is looked at by its own type before it is used.

_PLAIN_SCALARS = (type(None), bool, int, float, str, bytes)


def encode(value: object, limits: ValueLimits, root: str = "value") -> bytes:
    """The value as bytes.

    Raises:
        CrossError: a part cannot cross; `path` starts with `root`.
        ValueTooLarge: a limit is broken.
    """
    plain = _encode_fast(value, limits)
    if plain is not None:
        return plain
    out = bytearray((EXTENDED,))
    encoder = _Encoder(out, limits)
    try:
        encoder.write(value, root, 0)
    except RecursionError:  # little stack was left; the limit on depth keeps this away from honest callers
        raise ValueTooLarge("value_depth", limits.depth + 1, limits.depth, root) from None
    written = bytes(out)
    if encoder.folded:  # two keys may have become one, or what has no hash: the other side would take it for an attack
        try:
            decode(written, limits, root)
        except BadValue as exc:
            raise CrossError(f"its keys or items do not serve once they are plain data ({exc})", root) from None
    return written


def _encode_fast(value: object, limits: ValueLimits) -> bytes | None:
    """The value written by marshal in C, or None where the careful encoder has to look at each part.

    marshal takes what is not in the set as well (code, complex, Ellipsis, anything with a buffer, lone surrogates) and
    knows no limits; so only values that were checked here or in `_is_plain` reach it.
    """
    kind = type(value)
    if kind is float or value is None or kind is bool:
        return b"\0" + marshal.dumps(value, 2)  # type: ignore[arg-type]  # narrowed by `kind`
    if kind is bytes:
        if len(value) > limits.size - ITEM_COST:  # type: ignore[arg-type]  # narrowed by `kind`
            return None
        return b"".join((b"\0s", len(value).to_bytes(4, "little"), value))  # type: ignore[arg-type]  # one copy
    if kind is str:
        if len(value) * 4 > limits.size - ITEM_COST:  # type: ignore[arg-type]  # narrowed by `kind`
            return None
        if not value.isascii() and not _encodable(value):  # type: ignore[attr-defined,arg-type]
            return None
    elif not _is_plain(value, limits):
        return None
    try:
        return b"\0" + marshal.dumps(value, 2)  # type: ignore[arg-type]  # made of plain types
    except ValueError:
        return None


def _is_plain(value: object, limits: ValueLimits) -> bool:  # noqa: C901  # one flat table of types, on the hot path
    """Whether the value is made of exact plain types and is within the limits. Iterative; stops at the first doubt."""
    room = limits.size
    bits = limits.int_bits
    depth = limits.depth
    level: list[object] = [value]
    while level:
        room -= ITEM_COST * len(level)
        depth -= 1
        if room < 0 or depth < 0:
            return False
        below: list[object] = []
        for item in level:
            kind = type(item)
            if kind is str:
                if item.isascii():  # type: ignore[attr-defined]  # narrowed by `kind`, here and below
                    room -= len(item)  # type: ignore[arg-type]
                elif _encodable(item):  # type: ignore[arg-type]
                    room -= 4 * len(item)  # type: ignore[arg-type]
                else:
                    return False
            elif kind is int:
                size = item.bit_length()  # type: ignore[attr-defined]
                if size > 31:
                    if size >= bits:
                        return False
                    room -= _integer_cost(size)
            elif kind is dict:
                below += item  # type: ignore[arg-type]
                below += item.values()  # type: ignore[attr-defined]
            elif kind is list or kind is tuple or kind is set or kind is frozenset:
                below += item  # type: ignore[arg-type]
            elif kind is bytes:
                room -= len(item)  # type: ignore[arg-type]
            elif kind is not float and item is not None and kind is not bool:
                return False
            if ITEM_COST * len(below) > room:
                return False
        level = below
    return room >= 0


def _integer_cost(bits: int) -> int:
    """Charged beside `ITEM_COST` for an integer that takes marshal's long form."""
    return 2 * -(-bits // MARSHAL_DIGIT_BITS)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Encoder:
    """Writes one value part by part; knows the path of each part and every limit."""

    def __init__(self, out: bytearray, limits: ValueLimits) -> None:
        self.out = out
        self.limits = limits
        self.cost = 0
        self.open: set[int] = set()
        self.hashed = 0
        """How many dict keys and sets the current part sits in: there a dataclass cannot become a dict."""
        self.folded = False
        """Whether a part of a dict key or a set stands as its plain form."""

    def write(self, value: object, path: str, depth: int) -> None:
        self.charge(ITEM_COST, path)
        kind = type(value)
        writer = _WRITERS.get(kind)
        if writer is not None:
            writer(self, value, path)
        elif kind in _CONTAINERS:
            self.nested(value, path, depth, kind)
        elif is_record(kind):
            if self.hashed:
                raise CrossError(f"{kind.__name__} cannot cross inside a set or as a dict key", path)
            self.nested(fields_of(value, path), path, depth, dict)
        else:
            self.folded |= self.hashed > 0
            self.cost -= ITEM_COST  # it is charged as what stands for it
            room = (self.limits.size - self.cost) // ITEM_COST
            self.write(plain_form(value, path, room), path, depth)

    def charge(self, cost: int, path: str) -> None:
        self.cost += cost
        if self.cost > self.limits.size:
            raise ValueTooLarge("value_bytes", self.cost, self.limits.size, path)

    def nested(self, value: object, path: str, depth: int, kind: type) -> None:
        if depth >= self.limits.depth:
            raise ValueTooLarge("value_depth", depth + 1, self.limits.depth, path)
        if id(value) in self.open:
            raise CrossError("contains itself", path)
        self.open.add(id(value))
        if kind is dict:
            self.out += b"{"
            for key, item in list(value.items()):  # type: ignore[attr-defined]
                self.hashed += 1
                self.write(key, f"{path} key", depth + 1)
                self.hashed -= 1
                self.write(item, f"{path}[{_short(key)}]", depth + 1)
            self.out += b"0"
        else:
            items: Iterable[object] = list(value)  # type: ignore[call-overload]
            self.hashed += kind is set or kind is frozenset
            self.out += _CONTAINERS[kind] + struct.pack("<i", len(items))  # type: ignore[arg-type]
            for index, item in enumerate(items):
                self.write(item, f"{path}[{index}]", depth + 1)
            self.hashed -= kind is set or kind is frozenset
        self.open.discard(id(value))

    def integer(self, value: int, path: str) -> None:
        bits = value.bit_length()
        if not self.limits.fits(value):
            raise ValueTooLarge("int_digits", int(bits / BITS_PER_DIGIT) + 1, self.limits.digits, path)
        if bits > 31:
            self.charge(_integer_cost(bits), path)
        self.out += marshal.dumps(value, 2)

    def text(self, value: str, path: str) -> None:
        self.charge(len(value) if value.isascii() else 4 * len(value), path)
        try:
            raw = value.encode("utf-8")
        except UnicodeEncodeError as exc:
            raise CrossError(f"str with a lone surrogate at index {exc.start}", path) from None
        self.out += b"u" + struct.pack("<i", len(raw)) + raw

    def raw(self, value: bytes, path: str) -> None:
        self.charge(len(value), path)
        self.out += b"s" + struct.pack("<i", len(value))
        self.out += value

    def decimal(self, value: Decimal, path: str) -> None:
        check_decimal(value, self.limits, path)
        self.tagged(b"d", str(value), path)

    def datetime(self, tag: bytes, value: dt.datetime | dt.time, path: str) -> None:
        zone = value.tzinfo
        text = f"{value.replace(tzinfo=None).isoformat()};{value.fold}"
        if zone is not None:
            if type(zone) is not dt.timezone:
                raise CrossError(f"time zone of type {type(zone).__name__}; use datetime.timezone", path)
            _check_unnamed(zone, path)
            text = f"{text};{_delta_text(zone.utcoffset(None))}"  # isoformat loses an offset of microseconds
        self.tagged(tag, text, path)

    def delta(self, tag: bytes, value: dt.timedelta, path: str) -> None:
        self.tagged(tag, _delta_text(value), path)

    def zone(self, value: dt.timezone, path: str) -> None:
        _check_unnamed(value, path)
        self.delta(b"z", value.utcoffset(None), path)

    def tagged(self, tag: bytes, text: str, path: str) -> None:
        raw = text.encode("ascii")
        self.charge(len(raw), path)
        self.out += tag
        self.out += bytes((len(raw),)) if len(raw) < 255 else b"\xff" + struct.pack("<i", len(raw))
        self.out += raw


def _delta_text(value: dt.timedelta) -> str:
    return f"{value.days};{value.seconds};{value.microseconds}"


def _check_unnamed(zone: dt.timezone, path: str) -> None:
    if str(zone) != str(dt.timezone(zone.utcoffset(None))):
        raise CrossError("a named time zone; only fixed offsets cross", path)


_CONTAINERS: dict[type, bytes] = {list: b"[", tuple: b"(", set: b"<", frozenset: b">", dict: b"{"}
_WRITERS: dict[type, Callable[[_Encoder, object, str], None]] = {
    type(None): lambda e, v, p: e.out.extend(b"N"),
    bool: lambda e, v, p: e.out.extend(b"T" if v else b"F"),
    int: _Encoder.integer,  # type: ignore[dict-item]  # `write` looks up by the exact type
    float: lambda e, v, p: e.out.extend(b"g" + struct.pack("<d", v)),
    str: _Encoder.text,  # type: ignore[dict-item]
    bytes: _Encoder.raw,  # type: ignore[dict-item]
    Decimal: _Encoder.decimal,  # type: ignore[dict-item]
    dt.datetime: lambda e, v, p: e.datetime(b"m", v, p),  # type: ignore[arg-type]
    dt.date: lambda e, v, p: e.tagged(b"D", v.isoformat(), p),  # type: ignore[attr-defined]
    dt.time: lambda e, v, p: e.datetime(b"h", v, p),  # type: ignore[arg-type]
    dt.timedelta: lambda e, v, p: e.delta(b"e", v, p),  # type: ignore[arg-type]
    dt.timezone: _Encoder.zone,  # type: ignore[dict-item]
}


def _short(key: object) -> str:
    if type(key) in _PLAIN_SCALARS:
        text = repr(key) if not isinstance(key, int) or key.bit_length() < 200 else "int"
        return text if len(text) <= 40 else text[:37] + "..."
    return type(key).__name__
