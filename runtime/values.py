"""The value codec: the closed set of data that crosses between host and guest, with exact round trips.

One source for both sides: the host imports it as `cloche.runtime.values`, the image bakes it in for the guest. So it
needs nothing but the standard library and imports nothing of ours.

A value is bytes: one format byte, then
* PLAIN: None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset in the layout of `marshal` version 2,
  which CPython writes in C. The guest side may read it with `marshal`, because the host wrote it; the host never does:
  its `_Decoder` below builds nothing outside the set and counts before it builds.
* EXTENDED: the same layout, with the tags of `_EXTENDED` for the datetime family and Decimal.

No tag names a type, a module or an attribute. Both directions charge the same price for a value, so what one side may
send the other may read.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import marshal  # noqa: TID251  # only to write; see above
import struct
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# `type(value) is dict` narrows to dict[Unknown, Unknown]; each part is looked at by its own type before it is used.

PLAIN, EXTENDED = 0, 1

_ITEM_COST = 64
"""Host bytes charged for any object, about what CPython's small ones take with their slot in a container."""
_BITS_PER_DIGIT = 3.3219280948873626
_MARSHAL_DIGIT_BITS = 15
_EQUAL_HASHES = 64
"""Keys of one container whose hash another key has too. More of them is an attack on the dict, not data."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class ValueLimits:
    """Bounds of one value. `size` counts host bytes of the decoded form."""

    size: int = 16 * 1024 * 1024
    depth: int = 100
    digits: int = 4300
    int_bits: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "int_bits", int(self.digits * _BITS_PER_DIGIT) + 1)

    def fits(self, value: int) -> bool:
        """Whether an integer has at most `digits` decimal digits. Exact: one more, and `str()` of a host refuses it."""
        bits = value.bit_length()
        return bits < self.int_bits or (bits == self.int_bits and abs(value) < 10**self.digits)


# --- encoding ---------------------------------------------------------------------------------------------------------

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
    try:
        _Encoder(out, limits).write(value, root, 0)
    except RecursionError:  # little stack was left; the limit on depth keeps this away from honest callers
        raise ValueTooLarge("value_depth", limits.depth + 1, limits.depth, root) from None
    return bytes(out)


def _encode_fast(value: object, limits: ValueLimits) -> bytes | None:
    """The value written by marshal in C, or None where the careful encoder has to look at each part.

    marshal takes what is not in the set as well (code, complex, Ellipsis, anything with a buffer, lone surrogates) and
    knows no limits; so only values that were checked here or in `_is_plain` reach it.
    """
    kind = type(value)
    if kind is float or value is None or kind is bool:
        return b"\0" + marshal.dumps(value, 2)  # type: ignore[arg-type]  # narrowed by `kind`
    if kind is bytes:
        if len(value) > limits.size - _ITEM_COST:  # type: ignore[arg-type]  # narrowed by `kind`
            return None
        return b"".join((b"\0s", len(value).to_bytes(4, "little"), value))  # type: ignore[arg-type]  # one copy
    if kind is str:
        if len(value) * 4 > limits.size - _ITEM_COST:  # type: ignore[arg-type]  # narrowed by `kind`
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
        room -= _ITEM_COST * len(level)
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
            if _ITEM_COST * len(below) > room:
                return False
        level = below
    return room >= 0


def _integer_cost(bits: int) -> int:
    """Charged beside `_ITEM_COST` for an integer that takes marshal's long form."""
    return 2 * -(-bits // _MARSHAL_DIGIT_BITS)


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

    def write(self, value: object, path: str, depth: int) -> None:
        self.charge(_ITEM_COST, path)
        kind = type(value)
        writer = _WRITERS.get(kind)
        if writer is not None:
            writer(self, value, path)
        elif kind in _CONTAINERS:
            self.nested(value, path, depth, kind)
        elif self.hashed:
            raise CrossError(f"{kind.__name__} cannot cross inside a set or as a dict key", path)
        else:
            self.nested(_as_dict(value, path), path, depth, dict)

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
            raise ValueTooLarge("int_digits", int(bits / _BITS_PER_DIGIT) + 1, self.limits.digits, path)
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
        _check_decimal(value, self.limits, path)
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


def _check_decimal(value: Decimal, limits: ValueLimits, path: str) -> None:
    """Digits count whether they are written or only implied: `int(Decimal("1E999999999"))` would fill the host."""
    exponent = value.as_tuple().exponent
    size = abs(exponent) if isinstance(exponent, int) else 0
    used = max(len(str(value)), size)
    if used > limits.digits:
        raise ValueTooLarge("int_digits", used, limits.digits, path)


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


def _as_dict(value: object, path: str) -> dict[str, object]:
    """The fields of a dataclass or pydantic model; anything else is refused by its type's name."""
    names: Iterable[str] | None = None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    elif isinstance(fields := getattr(type(value), "model_fields", None), dict):
        names = fields
    if names is None:
        raise CrossError(f"{type(value).__name__} cannot cross", path)
    try:
        return {name: getattr(value, name) for name in names}
    except AttributeError as exc:
        raise CrossError(f"{type(value).__name__} has a field without a value: {exc.name}", path) from None


def _short(key: object) -> str:
    if type(key) in _PLAIN_SCALARS:
        text = repr(key) if not isinstance(key, int) or key.bit_length() < 200 else "int"
        return text if len(text) <= 40 else text[:37] + "..."
    return type(key).__name__


# --- decoding ---------------------------------------------------------------------------------------------------------

_I32 = struct.Struct("<i").unpack_from
_F64 = struct.Struct("<d").unpack_from
_TEXT, _INT, _FLOAT, _BYTES, _LONG = b"uigsl"
_LIST, _TUPLE, _SET, _DICT, _END = b"[(<{0"
_OPENERS = frozenset(b"[(<>{")
_LARGE = 16 * 1024


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

    __slots__ = ("at", "extended", "left", "limits", "raw", "root")

    def __init__(self, raw: bytes | memoryview, limits: ValueLimits, root: str) -> None:
        self.raw = raw
        self.at = 1
        self.limits = limits
        self.left = limits.size
        self.root = root
        self.extended = raw[0] == EXTENDED

    def whole(self) -> object:
        """The value at the top."""
        tag = self.raw[1]
        if tag not in _OPENERS:
            return self.items(1, 0)[0]
        self.at = 2
        self.left -= _ITEM_COST
        return self.nested(tag, 0)

    def items(self, count: int, depth: int) -> list[object]:
        """The next `count` values, or with -1 all up to the end mark of a dict. The hot loop of the host.

        An index outside the bytes raises IndexError or struct.error, which `decode` translates.
        """
        raw, at, left = self.raw, self.at, self.left
        found: list[object] = []
        while count:
            tag = raw[at]
            left -= _ITEM_COST
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
                left += _ITEM_COST
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
            return _as_mapping(self.items(-1, depth + 1))
        count: int = _I32(self.raw, self.at)[0]
        self.at += 4
        if count < 0:
            raise BadValue("negative length")
        if count * _ITEM_COST > self.left:
            raise self.too_large(count * _ITEM_COST - self.left)
        if count > len(self.raw) - self.at:
            raise BadValue("container longer than its bytes")
        found = self.items(count, depth + 1) if count else []
        if tag == _LIST:
            return found
        return tuple(found) if tag == _TUPLE else _as_set(found, set if tag == _SET else frozenset)

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
        bits = abs(count) * _MARSHAL_DIGIT_BITS
        if bits - _MARSHAL_DIGIT_BITS >= self.limits.int_bits:
            raise ValueTooLarge("int_digits", int(bits / _BITS_PER_DIGIT), self.limits.digits, self.root)
        digits = struct.unpack(f"<{abs(count)}H", self.take(2 * abs(count)))
        if not digits or digits[-1] == 0 or max(digits) >> _MARSHAL_DIGIT_BITS:
            raise BadValue("malformed integer")
        # A power of two as the base: linear in the digits, where shifting them in one by one is quadratic.
        value = int("".join([format(digit, "015b") for digit in reversed(digits)]), 2)
        if not self.limits.fits(value):
            raise ValueTooLarge("int_digits", int(bits / _BITS_PER_DIGIT) + 1, self.limits.digits, self.root)
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
            _check_decimal(value, self.limits, self.root)
        return value

    def too_large(self, missing: int) -> ValueTooLarge:
        return ValueTooLarge("value_bytes", self.limits.size + missing, self.limits.size, self.root)

    def bad_length(self, size: int) -> Exception:
        if size < 0 or size > len(self.raw):
            return BadValue("length outside the value")
        return self.too_large(size)


def _as_mapping(found: list[object]) -> dict[object, object]:
    """A dict of keys and items in turn."""
    if len(found) % 2:
        raise BadValue("dict with a key alone")
    pairs = iter(found)
    try:
        if len(found) > 2 * _EQUAL_HASHES:
            _check_hashes(found[::2])
        result = dict(zip(pairs, pairs, strict=False))
    except TypeError:
        raise BadValue("dict with an unhashable key") from None
    if 2 * len(result) != len(found):
        raise BadValue("dict with a key twice")
    return result


def _as_set(found: list[object], kind: type[set[object] | frozenset[object]]) -> object:
    try:
        _check_hashes(found)
        result = kind(found)
    except TypeError:
        raise BadValue("set with an unhashable item") from None
    if len(result) != len(found):
        raise BadValue("set with an item twice")
    return result


def _check_hashes(keys: list[object]) -> None:
    """Refuses keys made to collide: CPython salts the hash of str and bytes, of numbers and tuples not."""
    if len(keys) <= _EQUAL_HASHES:
        return
    weak = [hash(key) for key in keys if type(key) is not str and type(key) is not bytes]
    if len(weak) - len(set(weak)) > _EQUAL_HASHES:
        raise BadValue("keys with equal hashes")


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
