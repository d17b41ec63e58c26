/**
 * The host's half of a rehearsal: requests to a relay without a guest, out of a ring without a reader, until V8 has
 * made machine code of what a tenant's first cell runs through. Touches nothing of the real sandbox.
 */

import { buildFrame } from "./framing.ts";
import { FileSystem } from "./fs_system.ts";
import { PROTOCOL_VERSION } from "./protocol.gen.ts";
import { GuestHost, type Interpreter } from "./relay.ts";
import { Inbox } from "./ring.ts";
import { World } from "./world.ts";

/** Enough for V8 to make machine code of what runs in each; some tens of milliseconds. */
const CELLS = 60;
/** A new sandbox draws its randomness anew: much arithmetic, for an interpreter of bytecode. */
const SEEDS = 12;
const CLOCKS = { monotonicMs: () => 0, wallMs: () => 0 } as const;

/** Serve requests in private. False: `stop` said that somebody came. */
export function rehearseHost(stop: () => boolean): boolean {
  const world = new World(new Uint8Array(32), CLOCKS);
  const random = (size: number) => world.random(size);
  const files = new FileSystem({
    baseFiles: new Map(),
    maxFiles: 9,
    maxBytes: 99,
    clock: () => world.timeNs(),
    random,
  });
  const output = buildFrame({ type: "output", stream: "stdout", attachments: [1] }, [new Uint8Array(1)]);
  const result = buildFrame({ type: "result", attachments: [1] }, [new Uint8Array(1)]);
  const call = buildFrame({ type: "tool_call", id: 1, name: "rehearse", attachments: [0] });
  const guest: Interpreter = {
    memory: { size: 0 },
    memoryRefused: 0,
    outputState: 0,
    limitMemory: () => {},
    hostCall: () => output,
    enter: () => {
      guest.hostCall(output);
      guest.hostCall(call);
      guest.hostCall(result);
      return new Uint8Array(0);
    },
  };
  const inbox = new Inbox(new SharedArrayBuffer(4), 0);
  const arrives = feeder(inbox);
  const ask = () => {
    arrives(call);
    return inbox.read();
  };
  const channel = { send: () => {}, ask, finish: () => inbox.finish(), cpuS: () => 0 };
  const host = new GuestHost(guest, world, files, channel);
  const serve = (request: Uint8Array) => {
    arrives(request);
    host.handle(inbox.readRequest());
    return !stop();
  };
  for (let number = 0; number < SEEDS; number++) {
    if (!serve(start())) return false;
    world.random(32);
  }
  for (let id = 0; id < CELLS; id++) {
    if (!serve(cell(id))) return false;
  }
  return serve(buildFrame({ type: "write_file", path: "/tmp/a", attachments: [1] }, [new Uint8Array(1)])) &&
    serve(buildFrame({ type: "read_file", path: "/tmp/a", attachments: [] }));
}

/** Puts frames where the reader would, without a look at the room: all of a rehearsal is a tenth of it. */
function feeder(inbox: Inbox): (frame: Uint8Array) => void {
  const { ring, cells } = inbox.setup;
  const words = new Int32Array(ring, 0, cells.start / 4), bytes = new Uint8Array(ring, cells.start);
  return (frame) => {
    bytes.set(frame, Atomics.load(words, cells.written));
    Atomics.add(words, cells.written, frame.length);
  };
}

function start(): Uint8Array {
  const limits = { memory_bytes: 0, files: 9, file_bytes: 99, tasks: 1, value_bytes: 1, int_digits: 1, value_depth: 1 };
  const header = { type: "start", protocol_version: PROTOCOL_VERSION, seed: "00".repeat(32), ...limits };
  return buildFrame({ ...header, attachments: [0] }, [new Uint8Array(0)]);
}

function cell(id: number): Uint8Array {
  const limits = { cpu_s: 1, output_bytes: 1, artifacts: 1, artifact_bytes: 1 };
  return buildFrame({ type: "cell", id, ...limits, attachments: [1, 0] }, [new Uint8Array(1), new Uint8Array(0)]);
}
