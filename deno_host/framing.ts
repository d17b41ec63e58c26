/**
 * Frames as bytes: u32 LE length, u32 LE header length, JSON header, raw attachments; the twin of `runtime/framing.py`.
 *
 * The first length counts everything after itself. Nothing is allocated before its length was checked.
 */

import { toByteString } from "./bytes.ts";
import { HostError } from "./host_error.ts";
import { MAX_ATTACHMENTS, MAX_HEADER_BYTES, MAX_REQUEST_BYTES } from "./protocol.gen.ts";

/** Bytes before the header. */
export const PREFIX_BYTES = 8;
const decoder = new TextDecoder("utf-8", { fatal: true });
const SHORT_HEADER_BYTES = 1024;
const NOT_PLAIN = /[\x7f-\uffff]/, ALL_NOT_PLAIN = /[\x7f-\uffff]/g;

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
  if (bytes.length <= SHORT_HEADER_BYTES && isAscii(bytes)) return toByteString(bytes); // nearly all, and faster
  try {
    return decoder.decode(bytes);
  } catch {
    throw new HostError("a header is not UTF-8");
  }
}

function isAscii(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at++) {
    if ((bytes[at] ?? 0) > 0x7f) return false;
  }
  return true;
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
  const text = asciiJson(header);
  const body = parts.reduce((sum, part) => sum + part.length, 0);
  const frame = new Uint8Array(PREFIX_BYTES + text.length + body);
  const prefix = new DataView(frame.buffer, 0, PREFIX_BYTES);
  prefix.setUint32(0, 4 + text.length + body, true);
  prefix.setUint32(4, text.length, true);
  let end = PREFIX_BYTES;
  for (let at = 0; at < text.length; at++) frame[end++] = text.charCodeAt(at);
  for (const part of parts) {
    frame.set(part, end);
    end += part.length;
  }
  return frame;
}

/** Compact JSON in ASCII, as the other engine's relay writes it. */
export function asciiJson(value: unknown): string {
  const text = JSON.stringify(value);
  if (!NOT_PLAIN.test(text)) return text;
  return text.replaceAll(ALL_NOT_PLAIN, (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"));
}
