import { assertEquals, assertThrows } from "./assert_test.ts";
import { checkLengths, splitAttachments, splitFrame } from "./framing.ts";
import { buildFrame } from "./framing.ts";
import { HostError } from "./host_error.ts";
import { FROM_WORKER, MAX_HEADER_BYTES, MAX_REQUEST_BYTES, TO_WORKER } from "./protocol.gen.ts";
import { parseTagged } from "./records.ts";

interface Golden {
  readonly name: string;
  readonly direction: "to_worker" | "from_worker";
  readonly header: { readonly type: string; readonly attachments: readonly number[] };
  readonly attachments: readonly string[];
  readonly frame: string;
}

const FOLDER = new URL("../tests/frames/", import.meta.url);
const GOLDEN: readonly Golden[] = [...Deno.readDirSync(FOLDER)]
  .filter(({ name }) => name.endsWith(".json"))
  .map(({ name }) => ({ name, ...JSON.parse(Deno.readTextFileSync(new URL(name, FOLDER))) }));

Deno.test("there is a golden frame of every type", () => {
  const types = new Set(GOLDEN.map(({ header }) => header.type));
  const missing = [...Object.keys(TO_WORKER), ...Object.keys(FROM_WORKER)].filter((type) => !types.has(type));
  assertEquals(missing, []);
});

for (const { name, direction, header, attachments, frame } of GOLDEN) {
  Deno.test(`golden frame ${name} is read as the header and attachments that it was made of`, () => {
    const { header: text, area } = splitFrame(Uint8Array.fromHex(frame));
    assertEquals(parseTagged(text, direction === "to_worker" ? TO_WORKER : FROM_WORKER), header);
    assertEquals(splitAttachments(area, header.attachments).map((part) => part.toHex()), attachments);
  });

  Deno.test(`golden frame ${name} is built with the same bytes`, () => {
    const whole = buildFrame(header, attachments.map((part) => Uint8Array.fromHex(part)));
    // Numbers such as 30.0 have another text in Python; both are read alike, so the headers are compared as data.
    const { header: text, area } = splitFrame(whole);
    const golden = splitFrame(Uint8Array.fromHex(frame));
    assertEquals(JSON.parse(text), JSON.parse(golden.header));
    assertEquals(area, golden.area);
    if (!/\d\.0[,}]/.test(golden.header)) assertEquals(whole.toHex(), frame);
  });
}

Deno.test("a length over the bound is refused before anything is read", () => {
  assertThrows(() => checkLengths(MAX_REQUEST_BYTES + 1, 10), HostError, "are allowed");
  assertThrows(() => checkLengths(MAX_HEADER_BYTES + 100, MAX_HEADER_BYTES + 1), HostError, "header of");
  assertThrows(() => checkLengths(10, 7), HostError, "header of");
});

Deno.test("a frame whose length does not fit its bytes is refused", () => {
  const frame = buildFrame({ type: "list_files", attachments: [] });
  assertThrows(() => splitFrame(frame.subarray(0, 7)), HostError, "shorter than its prefix");
  assertThrows(() => splitFrame(frame.subarray(0, -1)), HostError, "frame says");
});

Deno.test("attachments have to fill their area exactly", () => {
  const area = new Uint8Array(5);
  assertThrows(() => splitAttachments(area, [4]), HostError);
  assertThrows(() => splitAttachments(area, [6]), HostError);
  assertEquals(splitAttachments(area, [2, 3]).map((part) => part.length), [2, 3]);
});
