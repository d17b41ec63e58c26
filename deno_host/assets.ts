/**
 * The image, as the driver sends it before everything else: one frame on stdin whose attachments are read straight to
 * where they belong, so that no byte of it is held twice and the process needs no permission to read a file.
 */

import { readBootFrame } from "./boot_frame.ts";
import { decodeHeader } from "./framing.ts";
import { PAGE_BYTES } from "./guest_memory.ts";
import { HostError } from "./host_error.ts";
import type { Schema } from "./protocol.gen.ts";

/** The header of the first frame. The attachments: the reader's source, the wasm, the archive, then the segments. */
export interface Boot {
  readonly type: "boot";
  readonly attachments: readonly number[];
  /** sha256 of the image, for `hello`. */
  readonly image: string;
  /** Pages of the linear memory at the start, and at most. */
  readonly pages: number;
  readonly max_pages: number;
  /** Addresses of the interrupt flag and of the runner's byte (raw_output.ts), and size of the shim's buffer. */
  readonly interrupt: number;
  readonly output_state: number;
  readonly buffer_bytes: number;
  /** Where the guest looks for the archive. */
  readonly stdlib_path: string;
  /** Where in memory each segment goes. */
  readonly segments: readonly number[];
}

/** What a guest is made of. */
export interface Assets {
  readonly boot: Boot;
  readonly readerSource: string;
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly stdlib: Uint8Array;
}

const NUMBER: Schema = { kind: "int", least: 0, below: 2 ** 32 };
const BOOT: Readonly<Record<string, Readonly<Record<string, Schema>>>> = {
  boot: {
    attachments: { kind: "array", of: NUMBER },
    image: { kind: "text", longest: 64 },
    pages: NUMBER,
    max_pages: NUMBER,
    interrupt: NUMBER,
    output_state: NUMBER,
    buffer_bytes: NUMBER,
    stdlib_path: { kind: "text", longest: 4096 },
    segments: { kind: "array", of: NUMBER },
  },
};
const BEFORE_SEGMENTS = 3;

/** Read the image. Throws HostError when it is none, and whatever `read` throws. */
export function readAssets(read: (target: Uint8Array) => void): Assets {
  const { boot, take } = readBootFrame<Boot>(BOOT, read);
  const [readerBytes = 0, codeBytes = 0, stdlibBytes = 0, ...sizes] = boot.attachments;
  if (boot.attachments.length !== BEFORE_SEGMENTS + boot.segments.length) throw new HostError("boot: segments");
  const readerSource = decodeHeader(take(readerBytes));
  const module = new WebAssembly.Module(take(codeBytes));
  const stdlib = take(stdlibBytes);
  const memory = new WebAssembly.Memory({ initial: boot.pages, maximum: boot.max_pages, shared: true });
  boot.segments.forEach((at, index) => {
    const size = sizes[index] ?? 0;
    if (at + size > boot.pages * PAGE_BYTES) throw new HostError("boot: a segment lies outside the memory");
    read(new Uint8Array(memory.buffer, at, size));
  });
  return { boot, readerSource, module, memory, stdlib };
}
