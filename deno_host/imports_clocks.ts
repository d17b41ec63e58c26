/** Time, from the sandbox's world only. The zone is UTC everywhere: the host's zone is the host's affair. */

import { type Bound, type Box, plain, wasi } from "./contract.ts";
import { Errno } from "./errno.ts";
import { CLOCK_STEP_NS } from "./world.ts";

const REALTIME = 0, CLOCKS = 4;
const DAY_S = 86_400n;
const TM_BYTES = 40;
const DAYS_OF_ERA = 146_097n, YEARS_OF_ERA = 400n;
/** Days from 0000-03-01, where the leap-day arithmetic is simplest, to 1970-01-01. */
const MARCH_0000 = 719_468n;
const MIN_I32 = -(1n << 31n), MAX_I32 = (1n << 31n) - 1n;
const UTC = new Uint8Array([0x55, 0x54, 0x43, 0]);

function clockTimeGet(box: Box, clock: number, _precision: bigint, result: number): number {
  if (clock >= CLOCKS) return Errno.EINVAL;
  box.memory.setU64(result, clock === REALTIME ? box.world.timeNs() : box.world.monotonicNs());
  return 0;
}

function clockResGet(box: Box, clock: number, result: number): number {
  if (clock >= CLOCKS) return Errno.EINVAL;
  box.memory.setU64(result, CLOCK_STEP_NS);
  return 0;
}

function tzset(box: Box, zone: number, daylight: number, standardName: number, summerName: number): void {
  box.memory.setU32(zone, 0);
  box.memory.setU32(daylight, 0);
  box.memory.write(standardName, UTC);
  box.memory.write(summerName, UTC);
}

function gmtime(box: Box, seconds: bigint, result: number): void {
  box.memory.write(result, packedTm(seconds) ?? new Uint8Array(TM_BYTES));
}

/** Seconds since 1970 of a `struct tm`, which gets its normal form. -1 if its year does not fit one. */
function timegm(box: Box, pointer: number): bigint {
  const view = new DataView(box.memory.read(pointer, 24).buffer);
  const field = (index: number) => BigInt(view.getInt32(4 * index, true));
  const [years, month] = divide(field(4), 12n);
  const days = daysFromDate(field(5) + 1900n + years, month + 1n, 1n) + field(3) - 1n;
  const total = days * DAY_S + field(2) * 3600n + field(1) * 60n + field(0);
  const packed = packedTm(total);
  if (packed === undefined) return -1n;
  box.memory.write(pointer, packed);
  return total;
}

/** `struct tm` in UTC up to `tm_gmtoff`. Undefined: the year is out of its range. */
function packedTm(seconds: bigint): Uint8Array | undefined {
  const [days, rest] = divide(seconds, DAY_S);
  const [year, month, day] = dateFromDays(days);
  if (year - 1900n < MIN_I32 || year - 1900n > MAX_I32) return undefined;
  const weekday = divide(days + 4n, 7n)[1];
  const dayOfYear = days - daysFromDate(year, 1n, 1n);
  const fields = [rest % 60n, (rest / 60n) % 60n, rest / 3600n, day, month - 1n, year - 1900n, weekday, dayOfYear];
  const view = new DataView(new ArrayBuffer(TM_BYTES));
  fields.forEach((value, index) => view.setInt32(4 * index, Number(value), true));
  return new Uint8Array(view.buffer);
}

/** Days since 1970-01-01 in the Gregorian calendar. Years start in March here, so that a leap day is last. */
function daysFromDate(year: bigint, month: bigint, day: bigint): bigint {
  const [era, yearOfEra] = divide(month <= 2n ? year - 1n : year, YEARS_OF_ERA);
  const dayOfYear = (153n * ((month + 9n) % 12n) + 2n) / 5n + day - 1n;
  return era * DAYS_OF_ERA + yearOfEra * 365n + yearOfEra / 4n - yearOfEra / 100n + dayOfYear - MARCH_0000;
}

function dateFromDays(days: bigint): [year: bigint, month: bigint, day: bigint] {
  const [era, dayOfEra] = divide(days + MARCH_0000, DAYS_OF_ERA);
  const yearOfEra = (dayOfEra - dayOfEra / 1460n + dayOfEra / 36_524n - dayOfEra / 146_096n) / 365n;
  const dayOfYear = dayOfEra - (365n * yearOfEra + yearOfEra / 4n - yearOfEra / 100n);
  const shifted = (5n * dayOfYear + 2n) / 153n;
  const month = shifted < 10n ? shifted + 3n : shifted - 9n;
  const year = era * YEARS_OF_ERA + yearOfEra + (month <= 2n ? 1n : 0n);
  return [year, month, dayOfYear - (153n * shifted + 2n) / 5n + 1n];
}

/** Quotient rounded down and a remainder that is never negative. */
function divide(value: bigint, by: bigint): [quotient: bigint, remainder: bigint] {
  const rest = ((value % by) + by) % by;
  return [(value - rest) / by, rest];
}

/** Clocks and calendar. */
export const CLOCK_IMPORTS = {
  emscripten_date_now: plain((box) => Number(box.world.timeNs() / 1_000_000n)),
  emscripten_get_now: plain((box) => box.world.monotonicMs()),
  clock_time_get: wasi(clockTimeGet),
  clock_res_get: wasi(clockResGet),
  _tzset_js: plain(tzset),
  _gmtime_js: plain(gmtime),
  _localtime_js: plain(gmtime),
  _timegm_js: plain(timegm, -1n),
  _mktime_js: plain(timegm, -1n),
} as const satisfies Record<string, Bound>;
