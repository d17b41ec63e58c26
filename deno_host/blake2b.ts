/**
 * BLAKE2b (RFC 7693) of one short block, 32 bytes long and personalised: what makes the world's key of a seed.
 *
 * Words of 64 bits are two 32-bit halves, low one first: a new sandbox waits for this, and bigints took ten times as
 * long. Checked against Python's hashlib in the tests.
 */

const BLOCK_BYTES = 128, DIGEST_BYTES = 32, STATE_BYTES = 64;
const IV = new Uint32Array([
  ...[0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a],
  ...[0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19],
]);
/** Which word of the block goes where, one row per round; rounds 10 and 11 repeat the first two. */
const SIGMA: readonly (readonly number[])[] = [
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
].map((row) => [...row].map((digit) => parseInt(digit, 16)));
/** The four words that each of the eight mixes of a round works on. */
const MIXES: readonly (readonly number[])[] = [
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
  const parameters = new Uint8Array(STATE_BYTES);
  parameters.set([DIGEST_BYTES, 0, 1, 1]);
  parameters.set(person, 48);
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(input);
  const state = halves(parameters).map((half, index) => half ^ at(IV, index));
  const work = new Uint32Array(32);
  work.set(state);
  work.set(IV, 16);
  work[24] = at(work, 24) ^ input.length; // word 12: how many bytes there were
  work[28] = ~at(work, 28); // word 14: this block is the last
  work[29] = ~at(work, 29);
  compress(work, halves(block));
  const digest = new DataView(new ArrayBuffer(DIGEST_BYTES));
  for (let half = 0; half < DIGEST_BYTES / 4; half++) {
    digest.setUint32(4 * half, at(state, half) ^ at(work, half) ^ at(work, half + 16), true);
  }
  return new Uint8Array(digest.buffer);
}

function compress(work: Uint32Array, message: Uint32Array): void {
  for (const order of SIGMA) {
    for (let step = 0; step < MIXES.length; step++) {
      const where = MIXES[step] ?? [];
      add(work, where[0] ?? 0, message, order[2 * step] ?? 0);
      mix(work, where, 32, 24);
      add(work, where[0] ?? 0, message, order[2 * step + 1] ?? 0);
      mix(work, where, 16, 63);
    }
  }
}

/** Half of a mix: the first word has its part of the message already. */
function mix(work: Uint32Array, where: readonly number[], first: number, second: number): void {
  const a = where[0] ?? 0, b = where[1] ?? 0, c = where[2] ?? 0, d = where[3] ?? 0;
  add(work, a, work, b);
  turn(work, d, a, first);
  add(work, c, work, d);
  turn(work, b, c, second);
}

/** target[to] += source[from], words of 64 bits. */
function add(target: Uint32Array, to: number, source: Uint32Array, from: number): void {
  const low = at(target, 2 * to) + at(source, 2 * from);
  target[2 * to] = low;
  target[2 * to + 1] = at(target, 2 * to + 1) + at(source, 2 * from + 1) + (low > 0xffffffff ? 1 : 0);
}

/** work[to] ^= work[from], then turned right by `bits`. */
function turn(work: Uint32Array, to: number, from: number, bits: number): void {
  const low = at(work, 2 * to) ^ at(work, 2 * from), high = at(work, 2 * to + 1) ^ at(work, 2 * from + 1);
  const first = bits < 32 ? low : high, second = bits < 32 ? high : low;
  const by = bits & 31; // a shift of 32 is one of 0 in this language
  work[2 * to] = by === 0 ? first : (first >>> by) | (second << (32 - by));
  work[2 * to + 1] = by === 0 ? second : (second >>> by) | (first << (32 - by));
}

function halves(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Uint32Array.from({ length: bytes.length / 4 }, (_, index) => view.getUint32(4 * index, true));
}

function at(list: Uint32Array, index: number): number {
  return list[index] ?? 0;
}
