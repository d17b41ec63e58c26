/**
 * The shared memory between the two threads: a few words and a ring of bytes. `stdin_reader.ts` writes, the main
 * thread reads; each side moves only its own counter.
 */

import { HostError } from "./host_error.ts";
import { checkLengths, PREFIX_BYTES } from "./framing.ts";

const RING_BYTES = 256 * 1024;
/** Numbers of the words, and where the ring's bytes start. */
const CELLS = { state: 0, early: 1, closed: 2, written: 3, taken: 4, start: 64 } as const;
const STATES = { unread: 0, idle: 1, sent: 2, busy: 3 } as const;
/** A thread of our own that does not start in this time never will. */
const READER_START_MS = 30_000;
const SIGINT = 2;

/** What the reader has to know; `ring` has the words first, then the bytes. */
export interface Setup {
  readonly ring: SharedArrayBuffer;
  readonly cells: typeof CELLS;
  readonly states: typeof STATES;
  readonly memory: SharedArrayBuffer;
  readonly flagAt: number;
  readonly signal: number;
}

/** The host closed stdin. */
export class HostGone extends Error {}

/** The main thread's end: whole frames, and the state of the request that interrupts belong to. */
export class Inbox {
  readonly #shared = new SharedArrayBuffer(CELLS.start + RING_BYTES);
  readonly #words = new Int32Array(this.#shared, 0, CELLS.start / 4);
  readonly #bytes = new Uint8Array(this.#shared, CELLS.start);
  readonly #flag: Int32Array;

  constructor(private readonly memory: SharedArrayBuffer, private readonly flagAt: number) {
    this.#flag = new Int32Array(memory, flagAt, 1);
  }

  /** The message that sets the reader to work. */
  get setup(): Setup {
    return {
      ring: this.#shared,
      cells: CELLS,
      states: STATES,
      memory: this.memory,
      flagAt: this.flagAt,
      signal: SIGINT,
    };
  }

  /** Wait until the second thread reads. Throws HostError. */
  waitForReader(): void {
    Atomics.wait(this.#words, CELLS.state, STATES.unread, READER_START_MS);
    if (this.#counter(CELLS.state) === STATES.unread) throw new HostError("the second thread did not start");
  }

  /** Wait until a frame begins, at most this long. */
  comesWithin(timeoutMs: number): boolean {
    if (this.#available() === 0) Atomics.wait(this.#words, CELLS.written, this.#counter(CELLS.written), timeoutMs);
    return this.#available() > 0;
  }

  /** The next frame with its prefix. Throws HostGone, and HostError for lengths that are not allowed. */
  read(): Uint8Array {
    const prefix = new Uint8Array(PREFIX_BYTES);
    this.#fill(prefix);
    const view = new DataView(prefix.buffer);
    const length = view.getUint32(0, true);
    checkLengths(length, view.getUint32(4, true));
    const frame = new Uint8Array(4 + length);
    frame.set(prefix);
    this.#fill(frame.subarray(PREFIX_BYTES));
    return frame;
  }

  /** The host closed stdin; what it sent before may still be there. */
  get hostIsGone(): boolean {
    return this.#counter(CELLS.closed) !== 0;
  }

  /** The next request. From here on an interrupt is the guest's. */
  readRequest(): Uint8Array {
    const frame = this.read();
    Atomics.store(this.#words, CELLS.state, STATES.busy);
    if (Atomics.load(this.#words, CELLS.early) !== 0) Atomics.store(this.#flag, 0, SIGINT);
    return frame;
  }

  /** The request is over; call this before its last frame is sent. What the guest has not seen of an interrupt is
   * taken back (the reader does so once more, with the next request). */
  finish(): void {
    if (Atomics.load(this.#words, CELLS.state) !== STATES.busy) throw new HostError("no request to finish");
    Atomics.store(this.#words, CELLS.state, STATES.idle);
    Atomics.store(this.#flag, 0, 0);
  }

  #fill(target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const available = this.#available();
      if (available === 0) {
        this.#wait();
        continue;
      }
      const taken = this.#counter(CELLS.taken), at = (taken >>> 0) % RING_BYTES;
      const size = Math.min(available, target.length - done, RING_BYTES - at);
      target.set(this.#bytes.subarray(at, at + size), done);
      Atomics.add(this.#words, CELLS.taken, size);
      Atomics.notify(this.#words, CELLS.taken);
      done += size;
    }
  }

  #wait(): void {
    const written = this.#counter(CELLS.written);
    if (this.#available() > 0) return;
    if (this.#counter(CELLS.closed) !== 0) throw new HostGone();
    Atomics.wait(this.#words, CELLS.written, written, 1000); // bounded: `closed` may be set just now
  }

  #available(): number {
    return (this.#counter(CELLS.written) - this.#counter(CELLS.taken)) >>> 0;
  }

  #counter(cell: number): number {
    return Atomics.load(this.#words, cell);
  }
}
