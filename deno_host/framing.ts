/**
 * Frames as bytes: u32 LE length, u32 LE header length, JSON header, raw attachments; the twin of `runtime/framing.py`.
 *
 * The first length counts everything after itself. Nothing is allocated before its length was checked.
 */

import { concat } from "./bytes.ts";
import { HostError } from "./host_error.ts";
import { MAX_ATTACHMENTS, MAX_HEADER_BYTES, MAX_REQUEST_BYTES } from "./protocol.gen.ts";

/** Bytes before the header. */
export const PREFIX_BYTES = 8;
const decoder = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

/** Refuse a frame by its two lengths alone. Throws HostError. */
export function checkLengths(length: number, headerLength: number, maxBytes = MAX_REQUEST_BYTES): void {
  if (length > maxBytes) throw new HostError(`frame of ${length} bytes, ${maxBytes} are allowed`);
  if (headerLength > MAX_HEADER_BYTES || headerLength + 4 > length) {
    throw new HostError(`header of ${headerLength} bytes in a frame of ${length}`);
  }
}

/** Header text and the attachments' area of one whole frame. Throws HostError. */
export function splitFrame(frame: Uint8Array): { header: string; area: Uint8Array } {
  if (frame.length < PREFIX_BYTES) throw new HostError(`frame of ${frame.length} bytes is shorter than its prefix`);
  const view = new DataView(frame.buffer, frame.byteOffset, PREFIX_BYTES);
  const length = view.getUint32(0, true), headerLength = view.getUint32(4, true);
  checkLengths(length, headerLength);
  if (length !== frame.length - 4) throw new HostError(`frame says ${length} bytes and has ${frame.length - 4}`);
  const end = PREFIX_BYTES + headerLength;
  return { header: decodeHeader(frame.subarray(PREFIX_BYTES, end)), area: frame.subarray(end) };
}

/** The text of a header. Throws HostError. */
export function decodeHeader(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new HostError("a header is not UTF-8");
  }
}

/** The attachments, without copying. They must fill the area exactly. Throws HostError. */
export function splitAttachments(area: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  if (lengths.length > MAX_ATTACHMENTS) throw new HostError(`${lengths.length} attachments`);
  let start = 0;
  const parts = lengths.map((length) => area.subarray(start, start += length));
  if (start !== area.length) throw new HostError("attachment lengths do not fit the frame");
  return parts;
}

/** A frame from a header that lists its attachments' lengths. */
export function buildFrame(header: object, parts: readonly Uint8Array[] = []): Uint8Array {
  const raw = encoder.encode(asciiJson(header));
  const body = parts.reduce((sum, part) => sum + part.length, 0);
  const prefix = new DataView(new ArrayBuffer(PREFIX_BYTES));
  prefix.setUint32(0, 4 + raw.length + body, true);
  prefix.setUint32(4, raw.length, true);
  return concat([new Uint8Array(prefix.buffer), raw, ...parts]);
}

/** Compact JSON in ASCII, as the other engine's relay writes it. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(/[\x7f-\uffff]/g, (unit) => {
    return "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0");
  });
}
