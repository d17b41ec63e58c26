"""Time, from the sandbox's world only. The zone is UTC everywhere: the host's zone is the host's affair."""

from __future__ import annotations

import struct

from .. import errno
from ..world import CLOCK_STEP_NS
from .contract import Box, Import, wasi

_REALTIME, _CLOCKS = 0, 4
_DAY_S = 86_400
_TM = struct.Struct("<10i")
_TM_INPUT = struct.Struct("<6i")
_ZERO_TM = bytes(_TM.size)
_I32 = range(-(1 << 31), 1 << 31)
_DAYS_OF_ERA, _YEARS_OF_ERA = 146_097, 400
_MARCH_0000 = 719_468
"""Days from 0000-03-01, where the leap-day arithmetic is simplest, to 1970-01-01."""


def emscripten_date_now(box: Box) -> float:
    return float(box.world.time_ns() // 1_000_000)


def emscripten_get_now(box: Box) -> float:
    return box.world.monotonic_ns() / 1e6


def clock_time_get(box: Box, clock: int, _precision: int, result: int) -> int:
    if clock >= _CLOCKS:
        return errno.EINVAL
    box.memory.set_u64(result, box.world.time_ns() if clock == _REALTIME else box.world.monotonic_ns())
    return 0


def clock_res_get(box: Box, clock: int, result: int) -> int:
    if clock >= _CLOCKS:
        return errno.EINVAL
    box.memory.set_u64(result, CLOCK_STEP_NS)
    return 0


def tzset(box: Box, zone: int, daylight: int, standard_name: int, summer_name: int) -> None:
    box.memory.set_u32(zone, 0)
    box.memory.set_u32(daylight, 0)
    box.memory.write(standard_name, b"UTC\0")
    box.memory.write(summer_name, b"UTC\0")


def gmtime(box: Box, seconds: int, result: int) -> None:
    box.memory.write(result, _packed_tm(seconds) or _ZERO_TM)


def timegm(box: Box, pointer: int) -> int:
    """Seconds since 1970 of a `struct tm`, which gets its normal form. -1 if its year does not fit one."""
    second, minute, hour, day, month, year = map(int, _TM_INPUT.unpack(box.memory.read(pointer, _TM_INPUT.size)))
    years, month = divmod(month, 12)
    days = _days_from_date(year + 1900 + years, month + 1, 1) + day - 1
    total = days * _DAY_S + hour * 3600 + minute * 60 + second
    packed = _packed_tm(total)
    if packed is None:
        return -1
    box.memory.write(pointer, packed)
    return total


def _packed_tm(seconds: int) -> bytes | None:
    """`struct tm` in UTC up to `tm_gmtoff`. None: the year is out of its range."""
    days, rest = divmod(seconds, _DAY_S)
    year, month, day = _date_from_days(days)
    if year - 1900 not in _I32:
        return None
    day_of_year = days - _days_from_date(year, 1, 1)
    weekday = (days + 4) % 7
    return _TM.pack(rest % 60, rest // 60 % 60, rest // 3600, day, month - 1, year - 1900, weekday, day_of_year, 0, 0)


def _days_from_date(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar. Years start in March here, so that a leap day is last."""
    year -= month <= 2
    era, year_of_era = divmod(year, _YEARS_OF_ERA)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * _DAYS_OF_ERA + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - _MARCH_0000


def _date_from_days(days: int) -> tuple[int, int, int]:
    era, day_of_era = divmod(days + _MARCH_0000, _DAYS_OF_ERA)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * _YEARS_OF_ERA + year_of_era + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


_WORLD = "the world's clock, cut to whole microseconds"
IMPORTS: dict[str, Import] = {
    "emscripten_date_now": Import(emscripten_date_now, "real", _WORLD),
    "emscripten_get_now": Import(emscripten_get_now, "real", f"{_WORLD}; begins at 0 in each sandbox"),
    "clock_time_get": wasi(clock_time_get, "real", f"{_WORLD}; CPU-time clocks are the monotonic one"),
    "clock_res_get": wasi(clock_res_get, "real", "one microsecond"),
    "_tzset_js": Import(tzset, "real", "the zone is UTC"),
    "_gmtime_js": Import(gmtime, "real", "calendar arithmetic, no clock"),
    "_localtime_js": Import(gmtime, "real", "the zone is UTC"),
    "_timegm_js": Import(timegm, "real", "calendar arithmetic, no clock", -1),
    "_mktime_js": Import(timegm, "real", "the zone is UTC", -1),
}
