/**
 * The one place where nondeterminism enters a sandbox: clocks, randomness and environment.
 *
 * Random bytes are those of `wasm_sandbox/world.py`: a sandbox with the same seed draws the same on both engines.
 */

import { blake2b256 } from "./blake2b.ts";
import { concat } from "./bytes.ts";
import { shake256 } from "./keccak.ts";

/** Clocks are cut to whole microseconds, and the guest is told so. */
export const CLOCK_STEP_NS = 1000n;
const MIN_SEED_BYTES = 16;
const PERSON = new TextEncoder().encode("cloche world");
/** The estimate of the wall clock is anchored anew when the machine's clock was moved by more than this. */
const DRIFT_MS = 5;

const ENVIRONMENT: readonly string[] = [
  "HOME=/home/web_user",
  "LANG=C.UTF-8",
  "LOGNAME=web_user",
  "PATH=/",
  "PWD=/home/web_user",
  "TZ=UTC",
  "USER=web_user",
];

/** The clocks of this process, captured before the realm is emptied. */
export interface Clocks {
  /** Milliseconds since any fixed moment, never going back. */
  readonly monotonicMs: () => number;
  /** Milliseconds since 1970. */
  readonly wallMs: () => number;
}

/** Clocks, randomness and environment of one sandbox. */
export class World {
  /** `NAME=value` byte strings: the same everywhere, nothing of the host. */
  readonly environment = ENVIRONMENT;
  readonly #base: number;
  #anchor: number;
  #key: Uint8Array = new Uint8Array(0);
  #draws = 0;

  constructor(seed: Uint8Array, private readonly clocks: Clocks) {
    this.#base = clocks.monotonicMs();
    this.#anchor = clocks.wallMs() - this.#base;
    this.reseed(seed);
  }

  /** Start randomness anew. Everything drawn later depends on `seed` alone. */
  reseed(seed: Uint8Array): void {
    if (seed.length < MIN_SEED_BYTES) throw new RangeError(`a seed has at least ${MIN_SEED_BYTES} bytes`);
    this.#key = blake2b256(seed, PERSON);
    this.#draws = 0;
  }

  /** Wall clock: nanoseconds since 1970, UTC, in whole microseconds. */
  timeNs(): bigint {
    const monotonic = this.clocks.monotonicMs(), wall = this.clocks.wallMs();
    if (Math.abs(this.#anchor + monotonic - wall) > DRIFT_MS) this.#anchor = wall - monotonic;
    return BigInt(Math.floor((this.#anchor + monotonic) * 1000)) * CLOCK_STEP_NS;
  }

  /** Nanoseconds since the sandbox began, in whole microseconds. */
  monotonicNs(): bigint {
    return BigInt(Math.floor((this.clocks.monotonicMs() - this.#base) * 1000)) * CLOCK_STEP_NS;
  }

  /** Milliseconds since the sandbox began, in whole microseconds. */
  monotonicMs(): number {
    return Math.floor((this.clocks.monotonicMs() - this.#base) * 1000) / 1000;
  }

  /** `size` bytes that nobody can predict who lacks the seed. The caller bounds `size`. */
  random(size: number): Uint8Array {
    const counter = new DataView(new ArrayBuffer(8));
    counter.setBigUint64(0, BigInt(this.#draws++), true);
    return shake256(concat([this.#key, new Uint8Array(counter.buffer)]), size);
  }
}
