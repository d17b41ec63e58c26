/**
 * BLAKE2b (RFC 7693) of one short block, 32 bytes long and personalised: what makes the world's key of a seed.
 *
 * Called once per sandbox, so it is written with bigint. Checked against Python's hashlib in the tests.
 */

const MASK = (1n << 64n) - 1n;
const BLOCK_BYTES = 128, DIGEST_BYTES = 32;
const IV: readonly bigint[] = [
  0x6a09e667f3bcc908n,
  0xbb67ae8584caa73bn,
  0x3c6ef372fe94f82bn,
  0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n,
  0x9b05688c2b3e6c1fn,
  0x1f83d9abfb41bd6bn,
  0x5be0cd19137e2179n,
];
/** Which word of the block goes where, one row per round; rounds 10 and 11 repeat the first two. */
const SIGMA: readonly string[] = [
  "0123456789abcdef",
  "ea489fd61c02b753",
  "b8c052fdae367194",
  "7931dcbe265a40f8",
  "905724afe1bc683d",
  "2c6a0b834d75fe19",
  "c51fed4a0763928b",
  "db7ec13950f4862a",
  "6fe9b308c2d714a5",
  "a2847615fb9e3cd0",
  "0123456789abcdef",
  "ea489fd61c02b753",
];
/** The four words that each of the eight mixes of a round works on. */
const MIXES: readonly (readonly [number, number, number, number])[] = [
  [0, 4, 8, 12],
  [1, 5, 9, 13],
  [2, 6, 10, 14],
  [3, 7, 11, 15],
  [0, 5, 10, 15],
  [1, 6, 11, 12],
  [2, 7, 8, 13],
  [3, 4, 9, 14],
];

/** BLAKE2b-256 of at most 128 bytes, with a `person` of at most 16. */
export function blake2b256(input: Uint8Array, person: Uint8Array): Uint8Array {
  if (input.length > BLOCK_BYTES || person.length > 16) throw new RangeError("one block only");
  const parameters = new Uint8Array(64);
  parameters.set([DIGEST_BYTES, 0, 1, 1]);
  parameters.set(person, 48);
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(input);
  const state = words(parameters).map((word, index) => word ^ at(IV, index));
  const work = [...state, ...IV];
  work[12] = at(work, 12) ^ BigInt(input.length);
  work[14] = at(work, 14) ^ MASK;
  compress(work, words(block));
  const digest = new DataView(new ArrayBuffer(DIGEST_BYTES));
  for (let index = 0; index < 4; index++) {
    digest.setBigUint64(8 * index, at(state, index) ^ at(work, index) ^ at(work, index + 8), true);
  }
  return new Uint8Array(digest.buffer);
}

function compress(work: bigint[], message: readonly bigint[]): void {
  for (const order of SIGMA) {
    MIXES.forEach((where, index) => {
      const x = at(message, parseInt(order.charAt(2 * index), 16));
      const y = at(message, parseInt(order.charAt(2 * index + 1), 16));
      mix(work, where, x, y);
    });
  }
}

function mix(work: bigint[], [a, b, c, d]: readonly [number, number, number, number], x: bigint, y: bigint): void {
  work[a] = (at(work, a) + at(work, b) + x) & MASK;
  work[d] = rotate(at(work, d) ^ at(work, a), 32n);
  work[c] = (at(work, c) + at(work, d)) & MASK;
  work[b] = rotate(at(work, b) ^ at(work, c), 24n);
  work[a] = (at(work, a) + at(work, b) + y) & MASK;
  work[d] = rotate(at(work, d) ^ at(work, a), 16n);
  work[c] = (at(work, c) + at(work, d)) & MASK;
  work[b] = rotate(at(work, b) ^ at(work, c), 63n);
}

function rotate(value: bigint, bits: bigint): bigint {
  return ((value >> bits) | (value << (64n - bits))) & MASK;
}

function words(bytes: Uint8Array): bigint[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / 8 }, (_, index) => view.getBigUint64(8 * index, true));
}

function at(list: readonly bigint[], index: number): bigint {
  return list[index] ?? 0n;
}
