import { assertEquals, assertThrows } from "./assert_test.ts";
import { concat } from "./bytes.ts";
import { buildFrame } from "./framing.ts";
import { FileSystem } from "./fs_system.ts";
import { Refused, Trapped } from "./guest.ts";
import { GuestHost, type Interpreter } from "./relay.ts";
import { World } from "./world.ts";

const CELL = buildFrame({
  ...{ type: "cell", id: 7, output_bytes: 1, artifacts: 1, artifact_bytes: 1, cpu_s: 1 },
  attachments: [1, 0],
}, [new Uint8Array(1), new Uint8Array(0)]);
const DONE = buildFrame({
  ...{ type: "done", id: 7, cpu_s: 0, memory_bytes: 0, artifacts: [], artifacts_dropped: 0 },
  attachments: [],
});
const RESULT = message("result"), OUTPUT = message("output"), WAIT = message("wait");

/** Runs one cell of a guest that says these things and ends with `idle`; what was written, one entry a write. */
function written(said: readonly Uint8Array[], idle: Uint8Array = new Uint8Array(0)): string[] {
  const writes: string[] = [];
  const guest: Interpreter = {
    memory: { size: 0 },
    memoryRefused: 0,
    limitMemory: () => {},
    hostCall: () => OUTPUT,
    enter: () => {
      for (const each of said) guest.hostCall(each);
      return idle;
    },
  };
  const channel = {
    send: (frame: Uint8Array) => void writes.push(frame.toHex()),
    ask: (frame: Uint8Array) => {
      writes.push(frame.toHex());
      idle = new Uint8Array(0);
      said = [];
      return OUTPUT;
    },
    finish: () => {},
    cpuS: () => 0,
  };
  relayOf(guest, channel).handle(CELL);
  return writes;
}

function relayOf(guest: Interpreter, channel: ConstructorParameters<typeof GuestHost>[3]): GuestHost {
  const world = new World(new Uint8Array(32), { monotonicMs: () => 0, wallMs: () => 0 });
  const random = (size: number) => world.random(size);
  const files = new FileSystem({ baseFiles: new Map(), maxFiles: 9, maxBytes: 99, clock: () => 0n, random });
  return new GuestHost(guest, world, files, channel);
}

function message(type: string, size = 0): Uint8Array {
  return buildFrame({ type, attachments: [size] }, [new Uint8Array(size)]);
}

Deno.test("a result and the end of its cell are one write", () => {
  assertEquals(written([RESULT]), [concat([RESULT, DONE]).toHex()]);
});

Deno.test("whatever a guest says after its result keeps its place", () => {
  assertEquals(written([OUTPUT, RESULT, OUTPUT]), [OUTPUT, RESULT, OUTPUT, DONE].map((frame) => frame.toHex()));
  assertEquals(written([RESULT, RESULT]), [RESULT.toHex(), concat([RESULT, DONE]).toHex()]);
  assertEquals(written([RESULT], WAIT), [RESULT, WAIT, DONE].map((frame) => frame.toHex()));
});

Deno.test("a large result is not held back", () => {
  const large = message("result", 100_000);
  assertEquals(written([large]), [large.toHex(), DONE.toHex()]);
});

Deno.test("a guest cannot say what only a worker may, nor wait with something else", () => {
  for (const type of ["done", "ready", "hello", "engine_limit"]) {
    assertThrows(() => written([message(type)]), Refused);
    assertThrows(() => written([concat([OUTPUT, message(type)])]), Refused);
  }
  assertThrows(() => written([], OUTPUT), Trapped);
});

Deno.test("while it rehearses the guest is heard by nobody, and it is not heard between requests", () => {
  const writes: Uint8Array[] = [];
  const guest: Interpreter = {
    ...{ memory: { size: 0 }, memoryRefused: 0, limitMemory: () => {}, hostCall: () => OUTPUT },
    enter: () => guest.hostCall(RESULT),
  };
  const send = (frame: Uint8Array) => void writes.push(frame);
  const relay = relayOf(guest, { send, ask: () => OUTPUT, finish: () => {}, cpuS: () => 0 });
  relay.rehearseBridge();
  assertEquals(writes, []);
  assertThrows(() => guest.hostCall(RESULT), Refused);
});
