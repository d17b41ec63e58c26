/**
 * The linear memory of the guest as the host reads and writes it: every access is checked, nothing is clipped.
 *
 * Pointers come from the guest, so they are numbers that an attacker chose: unsigned, at most 2^32 - 1. What is read
 * is a copy, so that the guest cannot change it any more.
 */

import { toByteString } from "./bytes.ts";

/** A pointer or length outside the linear memory. */
export class MemoryFault extends Error {}

/** Bytes of one page of linear memory. */
export const PAGE_BYTES = 65536;

/** Bounded access to the linear memory. */
export class GuestMemory {
  #bytes: Uint8Array;
  #view: DataView;

  constructor(private readonly memory: WebAssembly.Memory) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
  }

  /** Bytes of the memory now. */
  get size(): number {
    return this.#bytes.length;
  }

  /** Grow by whole pages. False if the memory's maximum or the machine does not allow it. */
  grow(pages: number): boolean {
    try {
      this.memory.grow(pages);
    } catch {
      return false;
    }
    this.#bytes = new Uint8Array(this.memory.buffer);
    this.#view = new DataView(this.memory.buffer);
    return true;
  }

  /** A copy of `length` bytes. */
  read(pointer: number, length: number): Uint8Array {
    this.check(pointer, length);
    return this.#bytes.slice(pointer, pointer + length);
  }

  /** Store the bytes. */
  write(pointer: number, data: Uint8Array): void {
    this.check(pointer, data.length);
    this.#bytes.set(data, pointer);
  }

  /** A little-endian u32. */
  u32(pointer: number): number {
    this.check(pointer, 4);
    return this.#view.getUint32(pointer, true);
  }

  /** A little-endian i64. */
  i64(pointer: number): bigint {
    this.check(pointer, 8);
    return this.#view.getBigInt64(pointer, true);
  }

  /** Store the low 32 bits. */
  setU32(pointer: number, value: number): void {
    this.check(pointer, 4);
    this.#view.setUint32(pointer, value, true);
  }

  /** Store the low 64 bits. */
  setU64(pointer: number, value: bigint): void {
    this.check(pointer, 8);
    this.#view.setBigInt64(pointer, value, true);
  }

  /** A C string without its NUL, as a byte string. One that is longer than `maxBytes`, or has no end, is a fault. */
  cstr(pointer: number, maxBytes = 4096): string {
    if (pointer >= this.size) throw new MemoryFault();
    const reach = this.#bytes.subarray(pointer, pointer + maxBytes + 1);
    const length = reach.indexOf(0);
    if (length < 0) throw new MemoryFault();
    return toByteString(reach.subarray(0, length));
  }

  /** Throw MemoryFault unless these bytes lie inside. */
  check(pointer: number, length: number): void {
    if (!(pointer >= 0 && length >= 0 && pointer + length <= this.#bytes.length)) throw new MemoryFault();
  }
}
