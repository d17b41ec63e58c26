/**
 * The second thread: reads stdin, so that an interrupt is seen while the guest computes.
 *
 * It runs from a `data:` URL (a process without permissions may load no file into a worker), so it imports nothing. It
 * passes frames on through a ring of shared memory and keeps interrupts to itself: a length of 0xFFFFFFFF. It has no
 * other job, no permission, and sees no byte of the guest. It wakes the main thread once for all that one read gave:
 * each waking costs tens of microseconds, and a length without its frame is no use to anybody.
 *
 * An interrupt belongs to the request whose frame went before it on stdin. `state` says how far that request is:
 * IDLE (none, or over: drop it), SENT (in the ring, not begun: note it), BUSY (running: set the guest's flag).
 */

interface Setup {
  /** Cells, then the ring's bytes; the layout is in ring.ts, which hands over all numbers. */
  readonly ring: SharedArrayBuffer;
  readonly cells: { state: number; early: number; closed: number; written: number; taken: number; start: number };
  readonly states: { idle: number; sent: number; busy: number };
  /** The guest's linear memory as it is at the start, and its interrupt flag. It never moves. */
  readonly memory: SharedArrayBuffer;
  readonly flagAt: number;
  readonly signal: number;
}

const INTERRUPT = 0xffffffff;
const CHUNK_BYTES = 64 * 1024;

/** Frames that are taken in private at the start: enough for V8 to have compiled the way of the first real one. */
const REHEARSED_FRAMES = 40;

/** Gives a function that takes the next bytes of stdin. */
function intake(
  { cells, states, signal }: Setup,
  ring: SharedArrayBuffer,
  flag: Int32Array,
): (part: Uint8Array) => void {
  const words = new Int32Array(ring, 0, cells.start / 4);
  const bytes = new Uint8Array(ring, cells.start);
  const length = new Uint8Array(4);
  let lengthBytes = 0; // of the next frame's length that were read
  let frameLeft = 0; // bytes of the current frame that are still to come

  function push(part: Uint8Array): void {
    while (part.length > 0) {
      const written = Atomics.load(words, cells.written), taken = Atomics.load(words, cells.taken);
      const room = bytes.length - ((written - taken) >>> 0);
      if (room === 0) {
        Atomics.notify(words, cells.written);
        Atomics.wait(words, cells.taken, taken);
        continue;
      }
      const at = (written >>> 0) % bytes.length;
      const size = Math.min(part.length, room, bytes.length - at);
      bytes.set(part.subarray(0, size), at);
      Atomics.add(words, cells.written, size);
      part = part.subarray(size);
    }
  }

  function interrupt(): void {
    if (Atomics.load(words, cells.state) === states.idle) return;
    Atomics.store(words, cells.early, 1); // before the look: whoever comes second sees the other
    if (Atomics.load(words, cells.state) === states.busy) Atomics.store(flag, 0, signal);
  }

  function beginFrame(size: number): void {
    if (Atomics.load(words, cells.state) === states.idle) {
      Atomics.store(words, cells.early, 0);
      Atomics.store(flag, 0, 0);
      Atomics.store(words, cells.state, states.sent);
    }
    frameLeft = size;
    push(length);
  }

  return (part) => {
    for (let at = 0; at < part.length;) {
      if (frameLeft > 0) {
        const size = Math.min(frameLeft, part.length - at);
        push(part.subarray(at, at + size));
        frameLeft -= size;
        at += size;
        continue;
      }
      length[lengthBytes++] = part[at++] ?? 0;
      if (lengthBytes < 4) continue;
      lengthBytes = 0;
      const size = new DataView(length.buffer).getUint32(0, true);
      if (size === INTERRUPT) interrupt();
      else beginFrame(size);
    }
    Atomics.notify(words, cells.written);
  };
}

/** Take frames and interrupts into a ring of its own. */
function rehearse(setup: Setup): void {
  const frame = new Uint8Array([8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
  const ring = new SharedArrayBuffer(setup.cells.start + (REHEARSED_FRAMES + 1) * frame.length);
  const state = new Int32Array(ring, 0, setup.cells.start / 4);
  const take = intake(setup, ring, new Int32Array(new SharedArrayBuffer(4)));
  for (let number = 0; number < REHEARSED_FRAMES; number++) {
    Atomics.store(state, setup.cells.state, setup.states.idle);
    take(frame);
  }
}

(self as unknown as { onmessage: (event: MessageEvent<Setup>) => void }).onmessage = ({ data }) => {
  const { cells, states } = data;
  const words = new Int32Array(data.ring, 0, cells.start / 4);
  const flag = new Int32Array(data.memory, data.flagAt, 1);
  const take = intake(data, data.ring, flag);
  const chunk = new Uint8Array(CHUNK_BYTES);

  Atomics.store(words, cells.state, states.idle);
  Atomics.notify(words, cells.state);
  rehearse(data);
  try {
    for (let size = Deno.stdin.readSync(chunk); size !== null; size = Deno.stdin.readSync(chunk)) {
      take(chunk.subarray(0, size));
    }
  } finally {
    Atomics.store(words, cells.closed, 1);
    Atomics.add(words, cells.written, 0);
    Atomics.notify(words, cells.written);
    // The host is gone. A guest that computes on gets an interrupt, then loses its memory, and the process ends.
    Atomics.store(flag, 0, data.signal);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 250);
    new Uint8Array(data.memory).fill(0);
  }
};
