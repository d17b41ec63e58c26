/**
 * Strict reading of headers: exactly the declared keys, each of its type and within its bounds; the twin of
 * `runtime/records.py`, over the tables in `protocol.gen.ts`.
 */

import { HostError } from "./host_error.ts";
import { type Schema, TO_WORKER, type ToWorker } from "./protocol.gen.ts";

type Fields = Readonly<Record<string, Schema>>;

/** The frame that this JSON text describes. Throws HostError, which names the place and quotes nothing. */
export function parseToWorker(text: string): ToWorker {
  return parseTagged(text, TO_WORKER) as ToWorker; // checked field by field just now
}

/** The record of one of these kinds, as plain data. Throws HostError. */
export function parseTagged(text: string, kinds: typeof TO_WORKER): object {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    throw new HostError("bad frame: no JSON");
  }
  if (!isObject(data)) throw new HostError("bad frame: not an object");
  const { type } = data;
  if (typeof type !== "string" || !Object.hasOwn(kinds, type)) throw new HostError("bad frame: unknown type");
  checkFields(data, kinds[type] ?? {}, type, 1);
  return data;
}

/** `more`: fields that stand in no schema and were read already. Places become text only when they are told. */
function checkFields(data: Record<string, unknown>, schemas: Fields, place: string, more = 0): void {
  const names = Object.keys(schemas);
  if (Object.keys(data).length !== names.length + more) throw new HostError(`bad frame: wrong fields at ${place}`);
  for (const name of names) {
    const schema = schemas[name];
    if (schema === undefined || !Object.hasOwn(data, name)) throw new HostError(`bad frame: wrong fields at ${place}`);
    check(data[name], schema, place, name);
  }
}

function check(value: unknown, schema: Schema, place: string, name: string): void {
  switch (schema.kind) {
    case "nullable":
      if (value !== null) check(value, schema.of, place, name);
      return;
    case "array":
      if (!Array.isArray(value) || value.length > (schema.longest ?? Infinity)) throw wrong(place, name);
      for (let index = 0; index < value.length; index++) check(value[index], schema.of, place, name);
      return;
    case "record":
      if (!isObject(value)) throw wrong(place, name);
      checkFields(value, schema.fields, `${place}.${name}`);
      return;
    default:
      if (!fits(value, schema)) throw wrong(place, name);
  }
}

function fits(value: unknown, schema: Exclude<Schema, { kind: "nullable" | "array" | "record" }>): boolean {
  switch (schema.kind) {
    case "bool":
      return typeof value === "boolean";
    case "text":
      return typeof value === "string" && value.length <= (schema.longest ?? Infinity) && value.isWellFormed();
    case "word":
      return typeof value === "string" && schema.allowed.includes(value);
    case "int":
      return Number.isSafeInteger(value) && inRange(value as number, schema);
    case "number":
      return Number.isFinite(value) && inRange(value as number, schema);
    default:
      return unreachable(schema);
  }
}

function inRange(value: number, schema: { readonly least?: number; readonly below?: number }): boolean {
  return value >= (schema.least ?? -Infinity) && value < (schema.below ?? Infinity);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(place: string, name: string): HostError {
  return new HostError(`bad frame: wrong value at ${place}.${name}`);
}

/** Closes a switch: the compiler proves that nothing comes here. */
export function unreachable(value: never): never {
  throw new HostError(`unreachable: ${String(value)}`);
}
