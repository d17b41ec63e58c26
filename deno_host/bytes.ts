/**
 * Paths and names as "byte strings": each character is one byte, 0 to 255. A guest's path need not be UTF-8, JavaScript
 * has no bytes that can be a Map's key, and lengths have to be counted in bytes.
 */

const CHUNK = 8192;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();
/** Takes any list of numbers; a spread would run the iterator instead. */
const fromCharCodes = String.fromCharCode.apply.bind(String.fromCharCode, undefined) as (units: unknown) => string;

/** The byte string of these bytes. */
export function toByteString(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) {
    text += fromCharCodes(bytes.subarray(at, at + CHUNK));
  }
  return text;
}

/** The bytes of a byte string. */
export function fromByteString(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes;
}

/** A byte string of the text's UTF-8. A lone surrogate, which has none, gives undefined. */
export function utf8ByteString(text: string): string | undefined {
  return text.isWellFormed() ? toByteString(encoder.encode(text)) : undefined;
}

/** The text whose UTF-8 this byte string is, or undefined. */
export function decodeByteString(text: string): string | undefined {
  try {
    return decoder.decode(fromByteString(text));
  } catch {
    return undefined;
  }
}

/** One array of all the parts. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
