import { assertEquals } from "./assert_test.ts";
import { rehearseHost } from "./rehearsal.ts";
import { warmUp } from "./warm_up.ts";

/** Counts what is rehearsed; `comesAfter`: looks for a request until one is there. */
function rehearse(comesAfter: number, cpuS: () => number = () => 0): { cells: number; words: number; looks: number } {
  const seen = { cells: 0, words: 0, looks: 0 };
  const host = { rehearse: () => void seen.cells++, rehearseBridge: () => void seen.words++ };
  warmUp(host, () => seen.looks++ >= comesAfter, cpuS);
  return seen;
}

Deno.test("a worker that is wanted at once rehearses nothing", () => {
  assertEquals(rehearse(0), { cells: 0, words: 0, looks: 1 });
});

Deno.test("whoever comes waits for one rehearsed cell at most", () => {
  for (let looks = 1; looks < 8; looks++) assertEquals(rehearse(looks).cells, looks);
});

Deno.test("a worker that nobody wants rehearses and comes to an end, also while it is never quiet", () => {
  const quiet = rehearse(Infinity);
  let busy = 0;
  const restless = rehearse(Infinity, () => busy++);
  assertEquals([restless.cells, restless.words], [quiet.cells, quiet.words]);
  assertEquals(restless.looks > quiet.looks, true);
});

Deno.test("the host's own rehearsal runs to its end, and stops when somebody comes", () => {
  assertEquals(rehearseHost(() => false), true);
  let looks = 0;
  assertEquals(rehearseHost(() => ++looks === 3), false);
  assertEquals(looks, 3);
});
