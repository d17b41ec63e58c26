/**
 * What kind of frame a guest's message is, told by its first bytes: every message passes here, so no text is made of
 * them. Guests put the type first; a message that does not is refused.
 */

import { PREFIX_BYTES } from "./framing.ts";

const ONE_WAY = ["tool_start", "tool_cancel", "guest_limit"] as const;
const encoder = new TextEncoder();

/** The types of a guest's frames; others that the host does not answer are one. */
export type Kind = "output" | "tool_call" | "result" | "wait" | "one_way";

const STARTS: readonly (readonly [Kind, Uint8Array])[] = [
  ["output", start("output")],
  ["tool_call", start("tool_call")],
  ["result", start("result")],
  ["wait", start("wait")],
  ...ONE_WAY.map((type) => ["one_way", start(type)] as const),
];

/** The kind of this message, or undefined when it is none, or more than one frame. */
export function kindOf(message: Uint8Array): Kind | undefined {
  if (!isOneFrame(message)) return undefined;
  for (const [kind, start] of STARTS) {
    if (beginsWith(message, start)) return kind;
  }
  return undefined;
}

function start(type: string): Uint8Array {
  return encoder.encode(`{"type":"${type}"`);
}

function beginsWith(message: Uint8Array, start: Uint8Array): boolean {
  if (message.length < PREFIX_BYTES + start.length) return false;
  for (let at = start.length - 1; at >= 0; at--) { // from the end: that is where they differ
    if (message[PREFIX_BYTES + at] !== start[at]) return false;
  }
  return true;
}

/** By its own length. Behind the first of two frames in one message a guest could hide what only a worker may say. */
function isOneFrame(message: Uint8Array): boolean {
  if (message.length < PREFIX_BYTES) return false;
  return new DataView(message.buffer, message.byteOffset, 4).getUint32(0, true) === message.length - 4;
}
