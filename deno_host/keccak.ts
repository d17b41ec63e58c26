/**
 * SHAKE256 (FIPS 202), for the world's random bytes: the platform's own hashes are asynchronous, and the guest waits.
 *
 * Lanes of 64 bits are two 32-bit halves, which V8 computes fast. Checked against Python's hashlib in the tests.
 */

const RATE = 136;
const ROUNDS = 24;
const ROTATIONS = [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
const LANES = [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];
const [CONSTANTS_LOW, CONSTANTS_HIGH] = roundConstants();

/** `size` bytes of SHAKE256 over the input. */
export function shake256(input: Uint8Array, size: number): Uint8Array {
  const state = new Uint32Array(50);
  const block = new Uint8Array(RATE);
  let at = 0;
  for (; at + RATE <= input.length; at += RATE) absorb(state, input.subarray(at, at + RATE));
  block.set(input.subarray(at));
  block[input.length - at] = 0x1f;
  block[RATE - 1] = (block[RATE - 1] ?? 0) | 0x80;
  absorb(state, block);
  return squeeze(state, size);
}

function absorb(state: Uint32Array, block: Uint8Array): void {
  const view = new DataView(block.buffer, block.byteOffset, RATE);
  for (let word = 0; word < RATE / 4; word++) xor(state, word, view.getUint32(4 * word, true));
  permute(state);
}

function squeeze(state: Uint32Array, size: number): Uint8Array {
  const whole = new Uint8Array(Math.ceil(size / RATE) * RATE);
  const view = new DataView(whole.buffer);
  for (let at = 0; at < size; at += RATE) {
    if (at > 0) permute(state);
    for (let word = 0; word < RATE / 4; word++) view.setUint32(at + 4 * word, state[word] ?? 0, true);
  }
  return whole.subarray(0, size);
}

function xor(state: Uint32Array, index: number, value: number): void {
  state[index] = (state[index] ?? 0) ^ value;
}

function permute(state: Uint32Array): void {
  const columns = new Uint32Array(10);
  for (let round = 0; round < ROUNDS; round++) {
    theta(state, columns);
    rhoPi(state);
    chi(state, columns);
    xor(state, 0, CONSTANTS_LOW[round] ?? 0);
    xor(state, 1, CONSTANTS_HIGH[round] ?? 0);
  }
}

function theta(state: Uint32Array, columns: Uint32Array): void {
  columns.fill(0);
  for (let index = 0; index < 50; index++) xor(columns, index % 10, state[index] ?? 0);
  for (let x = 0; x < 5; x++) {
    const left = ((x + 4) % 5) * 2, right = ((x + 1) % 5) * 2;
    const low = columns[right] ?? 0, high = columns[right + 1] ?? 0;
    const mixLow = (columns[left] ?? 0) ^ ((low << 1) | (high >>> 31));
    const mixHigh = (columns[left + 1] ?? 0) ^ ((high << 1) | (low >>> 31));
    for (let y = 0; y < 50; y += 10) {
      xor(state, y + 2 * x, mixLow);
      xor(state, y + 2 * x + 1, mixHigh);
    }
  }
}

function rhoPi(state: Uint32Array): void {
  let low = state[2] ?? 0, high = state[3] ?? 0;
  for (let step = 0; step < ROUNDS; step++) {
    const lane = 2 * (LANES[step] ?? 0), rotation = ROTATIONS[step] ?? 0;
    const nextLow = state[lane] ?? 0, nextHigh = state[lane + 1] ?? 0;
    const shift = rotation & 31;
    const a = rotation < 32 ? low : high, b = rotation < 32 ? high : low;
    state[lane] = shift === 0 ? a : (a << shift) | (b >>> (32 - shift));
    state[lane + 1] = shift === 0 ? b : (b << shift) | (a >>> (32 - shift));
    low = nextLow;
    high = nextHigh;
  }
}

function chi(state: Uint32Array, row: Uint32Array): void {
  for (let y = 0; y < 50; y += 10) {
    for (let index = 0; index < 10; index++) row[index] = state[y + index] ?? 0;
    for (let index = 0; index < 10; index++) {
      xor(state, y + index, ~(row[(index + 2) % 10] ?? 0) & (row[(index + 4) % 10] ?? 0));
    }
  }
}

/** The round constants, from the standard's shift register. */
function roundConstants(): [Uint32Array, Uint32Array] {
  const low = new Uint32Array(ROUNDS), high = new Uint32Array(ROUNDS);
  let register = 1;
  for (let round = 0; round < ROUNDS; round++) {
    for (let bit = 0; bit < 7; bit++) {
      if (register & 1) {
        const position = (1 << bit) - 1;
        if (position < 32) xor(low, round, 1 << position);
        else xor(high, round, 1 << (position - 32));
      }
      register = (register << 1) ^ (register & 0x80 ? 0x171 : 0);
    }
  }
  return [low, high];
}
