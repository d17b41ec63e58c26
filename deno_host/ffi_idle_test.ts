/** What an idle guest with JavaScript waits for. */

import { assertEquals } from "./assert_test.ts";
import { Idler } from "./ffi_idle.ts";
import { buildFrame, splitFrame } from "./framing.ts";

const waits = (timeoutS: number | null) =>
  buildFrame({ type: "wait", timeout_s: timeoutS, any_result: true, attachments: [] });
const header = (frame: Uint8Array) => JSON.parse(splitFrame(frame).header);
const EMPTY = { type: "wake", attachments: [], results: [] };
const never = () => {
  throw new Error("nobody is to be asked");
};

Deno.test("a guest that is ready goes on without a question to the host", async () => {
  const idler = new Idler({ isReady: true, asksHost: true }, never, () => false);
  assertEquals(header(await idler.answer(waits(null))), EMPTY);
});

Deno.test("a timer of the guest is waited for here", async () => {
  const idler = new Idler({ isReady: false, asksHost: false }, never, () => false);
  const begun = performance.now();
  assertEquals(header(await idler.answer(waits(0.03))), EMPTY);
  assertEquals(performance.now() - begun >= 29, true);
});

Deno.test("an interrupt ends the wait for what never comes", async () => {
  let looks = 0;
  const idler = new Idler({ isReady: false, asksHost: false }, never, () => ++looks > 3);
  assertEquals(header(await idler.answer(waits(null))), EMPTY);
});

Deno.test("callbacks of JavaScript run meanwhile and wake the guest", async () => {
  const guest = { isReady: false, asksHost: false };
  setTimeout(() => guest.isReady = true, 5);
  assertEquals(header(await new Idler(guest, never, () => false).answer(waits(null))), EMPTY);
});

Deno.test("while tools run the host is asked in short turns, and its results are passed on", async () => {
  const asked: number[] = [];
  const outcome = { id: 1, ok: true, end_cell: false };
  const results = buildFrame({ type: "wake", attachments: [1], results: [outcome] }, [new Uint8Array(1)]);
  const ask = (question: Uint8Array) => {
    asked.push(header(question).timeout_s);
    return asked.length < 40 ? buildFrame(EMPTY) : results;
  };
  const answer = await new Idler({ isReady: false, asksHost: true }, ask, () => false).answer(waits(null));
  assertEquals(header(answer).results, [outcome]);
  assertEquals(Math.max(...asked), 0.02);
});
