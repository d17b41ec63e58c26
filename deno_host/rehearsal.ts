/**
 * The host's half of a rehearsal: a few requests to a relay without a guest, so that V8 has compiled what a tenant's
 * first cell runs through. Touches nothing of the real sandbox.
 */

import { buildFrame } from "./framing.ts";
import { FileSystem } from "./fs_system.ts";
import { PROTOCOL_VERSION } from "./protocol.gen.ts";
import { GuestHost, type Interpreter } from "./relay.ts";
import { World } from "./world.ts";

const CELLS = 3;
const CLOCKS = { monotonicMs: () => 0, wallMs: () => 0 } as const;

/** Serve requests in private. */
export function rehearseHost(): void {
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
  const call = buildFrame({ type: "tool_call", id: 1, name: "rehearse", attachments: [0] });
  const guest: Interpreter = {
    memory: { size: 0 },
    memoryRefused: 0,
    limitMemory: () => {},
    hostCall: () => output,
    enter: () => {
      guest.hostCall(output);
      guest.hostCall(call);
      return new Uint8Array(0);
    },
  };
  const channel = { send: () => {}, ask: () => output, finish: () => {}, cpuS: () => 0 };
  const host = new GuestHost(guest, world, files, channel);
  host.handle(start());
  for (let id = 0; id < CELLS; id++) host.handle(cell(id));
  host.handle(buildFrame({ type: "write_file", path: "/tmp/a", attachments: [1] }, [new Uint8Array(1)]));
  host.handle(buildFrame({ type: "read_file", path: "/tmp/a", attachments: [] }));
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
