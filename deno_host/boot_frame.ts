/** The first frame on stdin, whose attachments are read straight to where they belong: no byte of it is held twice. */

import { checkLengths, decodeHeader, PREFIX_BYTES } from "./framing.ts";
import { HostError } from "./host_error.ts";
import type { Schema } from "./protocol.gen.ts";
import { parseTagged } from "./records.ts";

/** Image and archive are 45 MB; baked packages may add 256 MB twice. */
const MAX_BOOT_BYTES = 1 << 30;
type Schemas = Readonly<Record<string, Readonly<Record<string, Schema>>>>;

/** Its header, and `take`, which gives the next bytes behind it. */
export interface BootFrame<T> {
  readonly boot: T;
  readonly take: (size: number) => Uint8Array<ArrayBuffer>;
}

/** Read its header, checked field by field. Throws HostError when it is none, and whatever `read` throws. */
export function readBootFrame<T extends { readonly attachments: readonly number[] }>(
  schemas: Schemas,
  read: (target: Uint8Array) => void,
): BootFrame<T> {
  const take = (size: number) => {
    const part = new Uint8Array(size);
    read(part);
    return part;
  };
  const prefix = new DataView(take(PREFIX_BYTES).buffer);
  const length = prefix.getUint32(0, true), headerLength = prefix.getUint32(4, true);
  checkLengths(length, headerLength, MAX_BOOT_BYTES);
  const boot = parseTagged(decodeHeader(take(headerLength)), schemas) as unknown as T; // the schemas are its type
  if (boot.attachments.reduce((sum, size) => sum + size, 4 + headerLength) !== length) {
    throw new HostError("boot: attachment lengths do not fit the frame");
  }
  return { boot, take };
}
