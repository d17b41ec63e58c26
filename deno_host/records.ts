/**
 * Strict reading of headers: exactly the declared keys, each of its type and within its bounds; the twin of
 * `runtime/records.py`, over the tables in `protocol.gen.ts`.
 */

import { HostError } from "./host_error.ts";
import { type Schema, TO_WORKER, type ToWorker } from "./protocol.gen.ts";

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
  const { type, ...fields } = data;
  if (typeof type !== "string" || !Object.hasOwn(kinds, type)) throw new HostError("bad frame: unknown type");
  checkFields(fields, kinds[type] ?? {}, type);
  return data;
}

function checkFields(data: Record<string, unknown>, schemas: Readonly<Record<string, Schema>>, place: string): void {
  const names = Object.keys(schemas);
  if (Object.keys(data).length !== names.length || !names.every((name) => Object.hasOwn(data, name))) {
    throw new HostError(`bad frame: wrong fields at ${place}`);
  }
  for (const [name, schema] of Object.entries(schemas)) check(data[name], schema, `${place}.${name}`);
}

function check(value: unknown, schema: Schema, place: string): void {
  switch (schema.kind) {
    case "nullable":
      if (value !== null) check(value, schema.of, place);
      return;
    case "array":
      if (!Array.isArray(value) || value.length > (schema.longest ?? Infinity)) throw wrong(place);
      for (const item of value) check(item, schema.of, place);
      return;
    case "record":
      if (!isObject(value)) throw wrong(place);
      checkFields(value, schema.fields, place);
      return;
    default:
      if (!fits(value, schema)) throw wrong(place);
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

function wrong(place: string): HostError {
  return new HostError(`bad frame: wrong value at ${place}`);
}

/** Closes a switch: the compiler proves that nothing comes here. */
export function unreachable(value: never): never {
  throw new HostError(`unreachable: ${String(value)}`);
}
