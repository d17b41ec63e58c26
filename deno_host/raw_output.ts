/**
 * What a guest writes to descriptors 1 and 2 past its runner, as `output` frames in their place among the runner's own;
 * the twin of `wasm_sandbox/raw_output.py`, which says how the order is kept.
 */

import { concat } from "./bytes.ts";
import { buildFrame } from "./framing.ts";
import type { Output } from "./fs_descriptors.ts";

/** States of the guest's byte: its runner has something unsent; and something was written after that. */
const OVERTAKEN = 2;
/** Passed on beyond the cell's cap, for the host to see that there was more: longer than any one character. */
const OVER_BYTES = 8;
/** Bytes that wait for the runner; more are sent out of turn. */
const MOST_HELD = 4 * 1024 * 1024;
/** What a piece costs beside its bytes. */
const PIECE_BYTES = 128;
const CHUNK_BYTES = 16 * 1024, FRAME_BYTES = 256 * 1024;
const QUIET_MS = 20;
const NEWLINE = 10;

/** Where it comes from. */
export interface OutputSource {
  /** Takes what is written, as far as `outputLeft` goes. */
  output: Output;
  outputLeft: number;
}

/** Whose runner it has to wait for. */
export interface OutputOwner {
  /** The byte: 0 while the runner has nothing unsent. */
  outputState: number;
}

interface Part {
  readonly stream: 1 | 2;
  readonly pieces: Uint8Array[];
}

/** Takes the raw output of one file system, in a cell, and gives it to `send` in frames. */
export class RawOutput {
  /** It was written after what the runner has. */
  behind = false;
  #parts: Part[] = [];
  #size = 0;
  #pieces = 0;
  #sentAt = 0;

  constructor(
    private readonly source: OutputSource,
    private readonly owner: OutputOwner,
    private readonly nowMs: () => number,
    private readonly sendFrame: (frame: Uint8Array) => void,
  ) {
    source.output = (stream, data) => this.#take(stream, data);
    source.outputLeft = 0;
  }

  /** Something is held here. */
  get waiting(): boolean {
    return this.#parts.length > 0;
  }

  /** A cell begins, which may produce this much. */
  begin(limitBytes: number): void {
    this.source.outputLeft = limitBytes + OVER_BYTES;
    this.#sentAt = -Infinity;
  }

  /** The cell is over: what is written until the next one is dropped. */
  end(): void {
    this.source.outputLeft = 0;
    this.send();
  }

  /** Send what is held. Before the host is asked for anything. */
  send(): void {
    const parts = this.#parts;
    this.behind = false;
    if (parts.length === 0) return;
    this.#parts = [];
    this.#size = this.#pieces = 0;
    for (const { stream, pieces } of parts) {
      const data = concat(pieces);
      for (let at = 0; at < data.length; at += FRAME_BYTES) {
        const part = data.subarray(at, at + FRAME_BYTES);
        const name = stream === 1 ? "stdout" : "stderr";
        this.sendFrame(buildFrame({ type: "output", stream: name, attachments: [part.length] }, [part]));
      }
    }
  }

  /** The runner has sent output: what was written after it is next, unless it has more. */
  follow(): void {
    if (this.owner.outputState !== OVERTAKEN) this.send();
  }

  #take(stream: 1 | 2, data: Uint8Array): void {
    const state = this.owner.outputState;
    if (state !== 0 && !this.behind) {
      this.send(); // from before there was anything at the runner's
      this.behind = true;
      this.owner.outputState = OVERTAKEN;
    } else if (state === 0) {
      this.behind = false;
    }
    this.#keep(stream, data);
    if (this.behind) {
      if (this.#size + PIECE_BYTES * this.#pieces > MOST_HELD) this.send();
    } else if (this.#size >= CHUNK_BYTES || (data.includes(NEWLINE) && this.#isDue())) {
      this.send();
    }
  }

  #keep(stream: 1 | 2, data: Uint8Array): void {
    const last = this.#parts.at(-1);
    if (last?.stream === stream) last.pieces.push(data);
    else this.#parts.push({ stream, pieces: [data] });
    this.#size += data.length;
    this.#pieces++;
  }

  #isDue(): boolean {
    const now = this.nowMs();
    if (now - this.#sentAt < QUIET_MS) return false;
    this.#sentAt = now;
    return true;
  }
}
