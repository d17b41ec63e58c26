import { assertEquals, assertThrows } from "./assert_test.ts";
import { HostError } from "./host_error.ts";
import { parseToWorker } from "./records.ts";

const CELL = { attachments: [], id: 1, output_bytes: 1, artifacts: 1, artifact_bytes: 1, cpu_s: 1.5 };

Deno.test("a frame of the host is read when each field is right", () => {
  assertEquals(parseToWorker(JSON.stringify({ type: "cell", ...CELL })), { type: "cell", ...CELL });
});

const WRONG: readonly (readonly [about: string, text: string])[] = [
  ["text that is no JSON", "{"],
  ["an array", "[]"],
  ["an unknown type", JSON.stringify({ type: "exec" })],
  ["a type that every object has", JSON.stringify({ type: "constructor" })],
  ["no type", JSON.stringify(CELL)],
  ["a missing field", JSON.stringify({ type: "cell", ...CELL, id: undefined })],
  ["a field too many", JSON.stringify({ type: "cell", ...CELL, more: 1 })],
  ["a text for a number", JSON.stringify({ type: "cell", ...CELL, id: "1" })],
  ["a fraction for an id", JSON.stringify({ type: "cell", ...CELL, id: 1.5 })],
  ["an id below its range", JSON.stringify({ type: "cell", ...CELL, id: -1 })],
  ["an id above its range", JSON.stringify({ type: "cell", ...CELL, id: 2 ** 53 })],
  ["a number that is none", `{"type":"cell","attachments":[],"id":1e999}`],
  ["null where nothing may be missing", JSON.stringify({ type: "read_file", attachments: [], path: null })],
  ["a path that is too long", JSON.stringify({ type: "read_file", attachments: [], path: "a".repeat(4097) })],
  ["a lone surrogate", String.raw`{"type":"read_file","attachments":[],"path":"\ud800"}`],
  ["too many attachments", JSON.stringify({ type: "list_files", attachments: Array(1025).fill(0) })],
  ["a record with a field too many", JSON.stringify({ type: "wake", attachments: [], results: [{ id: 1, ok: true }] })],
];

for (const [about, text] of WRONG) {
  Deno.test(`a frame of the host with ${about} is refused`, () => {
    assertThrows(() => parseToWorker(text), HostError, "bad frame");
  });
}
