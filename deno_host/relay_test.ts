import { assertEquals, assertThrows } from "./assert_test.ts";
import { concat } from "./bytes.ts";
import { buildFrame, splitFrame } from "./framing.ts";
import { FileSystem } from "./fs_system.ts";
import { NoRoom, Refused, Trapped } from "./guest.ts";
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

/** A guest that does this with a frame of the host. */
function guestThat(enter: Interpreter["enter"]): Interpreter {
  return {
    memory: { size: 0 },
    memoryRefused: 0,
    outputState: 0,
    limitMemory: () => {},
    hostCall: () => OUTPUT,
    enter,
  };
}

/** Runs one cell of a guest that says these things and ends with `idle`; what was written, one entry a write. */
function written(said: readonly Uint8Array[], idle: Uint8Array = new Uint8Array(0)): string[] {
  const writes: string[] = [];
  const guest = guestThat(() => {
    for (const each of said) guest.hostCall(each);
    return idle;
  });
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

function relayOf(
  guest: Interpreter,
  channel: ConstructorParameters<typeof GuestHost>[3],
  files = someFiles(),
): GuestHost {
  return new GuestHost(guest, new World(new Uint8Array(32), { monotonicMs: () => 0, wallMs: () => 0 }), files, channel);
}

function someFiles(): FileSystem {
  return new FileSystem({
    ...{ baseFiles: new Map(), maxFiles: 9, maxBytes: 99, clock: () => 0n, random: (size) => new Uint8Array(size) },
  });
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
  const guest = guestThat(() => guest.hostCall(RESULT));
  const send = (frame: Uint8Array) => void writes.push(frame);
  const relay = relayOf(guest, { send, ask: () => OUTPUT, finish: () => {}, cpuS: () => 0 });
  relay.rehearseBridge();
  assertEquals(writes, []);
  assertThrows(() => guest.hostCall(RESULT), Refused);
});

/** What the host hears of a cell that may print `limit` bytes, in which a guest does this: one entry a frame. */
function heard(limit: number, act: (guest: Interpreter, raw: (text: string, fd?: number) => void) => void): string[] {
  const said: string[] = [];
  const files = someFiles();
  const guest = guestThat(() => {
    act(guest, (text, fd = 1) => void files.openFiles.write(fd, new TextEncoder().encode(text)));
    return new Uint8Array(0);
  });
  const send = (frames: Uint8Array) => {
    for (let at = 0; at < frames.length;) {
      const end = at + 4 + new DataView(frames.buffer, frames.byteOffset + at).getUint32(0, true);
      const { header, area } = splitFrame(frames.subarray(at, end));
      const kind = /"stream":"(std\w+)"/.exec(header)?.[1] ?? /"type":"(\w+)"/.exec(header)?.[1];
      said.push(`${kind}:${new TextDecoder().decode(area).slice(0, 20)}`);
      at = end;
    }
  };
  const ask = (frame: Uint8Array) => {
    send(frame);
    return OUTPUT;
  };
  const cell = buildFrame({
    ...{ type: "cell", id: 7, output_bytes: limit, artifacts: 1, artifact_bytes: 1, cpu_s: 1 },
    attachments: [0, 0],
  });
  relayOf(guest, { send, ask, finish: () => {}, cpuS: () => 0 }, files).handle(cell);
  return said;
}

function printed(text: string): Uint8Array {
  const data = new TextEncoder().encode(text);
  return buildFrame({ type: "output", stream: "stdout", attachments: [data.length] }, [data]);
}

Deno.test("raw output is sent a line at first, then together, before the host is asked and at the end", () => {
  const said = heard(99, (guest, raw) => {
    raw("one\n");
    raw("two\n");
    raw("three\n", 2);
    guest.hostCall(message("tool_call"));
    raw("end");
  });
  assertEquals(said, ["stdout:one\n", "stdout:two\n", "stderr:three\n", "tool_call:", "stdout:end", "done:"]);
});

Deno.test("raw output keeps its place among what the runner sends", () => {
  const said = heard(99, (guest, raw) => {
    raw("raw 1");
    guest.hostCall(printed("print 2"));
    raw("raw 3");
    guest.outputState = 1; // print 4 waits
    raw("raw 5\n");
    assertEquals(guest.outputState, 2);
    guest.hostCall(printed("print 4a"));
    guest.outputState = 0;
    guest.hostCall(printed("print 4b"));
    guest.hostCall(RESULT);
    raw("late");
  });
  const places = ["raw 1", "print 2", "raw 3", "print 4a", "print 4b", "raw 5\n"].map((text) => `stdout:${text}`);
  assertEquals(said, [...places, "result:", "stdout:late", "done:"]);
});

Deno.test("raw output is capped, and more than can be held does not wait", () => {
  assertEquals(heard(2, (_, raw) => raw("x".repeat(99)))[0], "stdout:" + "x".repeat(10));
  const said = heard(1e7, (guest, raw) => {
    guest.outputState = 1;
    raw("x".repeat(5e6));
    guest.hostCall(message("tool_call"));
  });
  assertEquals(said.length, Math.ceil(5e6 / (256 * 1024)) + 2);
  assertEquals(said.at(-2), "tool_call:");
});

Deno.test("a frame that finds no memory comes again as its header", () => {
  const entered: Uint8Array[] = [];
  const guest = guestThat((frame) => {
    entered.push(frame);
    if (entered.length === 1) throw new NoRoom();
    return new Uint8Array(0);
  });
  const channel = { send: () => {}, ask: () => OUTPUT, finish: () => {}, cpuS: () => 0 };
  relayOf(guest, channel).handle(CELL);
  const { header, area } = splitFrame(entered[1]!);
  assertEquals(JSON.parse(header), { ...JSON.parse(splitFrame(CELL).header), attachments: [] });
  assertEquals(area.length, 0);
});
