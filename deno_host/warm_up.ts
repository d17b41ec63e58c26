/**
 * What a worker does while nobody wants it: it runs what a tenant will run, until V8 has compiled and optimised that.
 *
 * The rule: whoever comes waits for one rehearsed cell at most.
 */

import { rehearseHost } from "./rehearsal.ts";
import type { GuestHost } from "./relay.ts";

/** Nobody wants this worker yet: it is a warm one, and rehearses. A cold one hears `start` within a millisecond. */
const REHEARSE_AFTER_MS = 20;
/** Cells of wasm_sandbox/guest/rehearsal.py. */
const CELLS = 8;
/** V8 optimises what the first round made hot on other threads; the first run of that code is slow once more. */
const ROUNDS = 2;
/** Times that the guest is let speak: enough for V8 to compile the way of a message here. */
const WORDS = 40;
const LOOK_EVERY_MS = 50;
const MOST_LOOKS = 60;
/** Share of the time between two looks that is no work. */
const QUIET_SHARE = 0.1;

/**
 * Rehearse until all is warm or somebody comes.
 *
 * @param comesWithin waits this long for a request and says whether there is one.
 * @param cpuS CPU time of the process in seconds.
 */
export function warmUp(
  host: Pick<GuestHost, "rehearse" | "rehearseBridge">,
  comesWithin: (timeoutMs: number) => boolean,
  cpuS: () => number,
): void {
  if (comesWithin(REHEARSE_AFTER_MS)) return;
  for (let round = 0; round < ROUNDS; round++) {
    for (let number = 0; number < CELLS; number++) {
      host.rehearse(number);
      if (comesWithin(0)) return;
    }
    for (let word = 0; word < WORDS; word++) host.rehearseBridge();
    if (comesWithin(0) || !rehearseHost(() => comesWithin(0)) || !settles(comesWithin, cpuS)) return;
  }
  host.rehearse();
}

/** Wait until V8 has nothing left to compile. False: somebody came. */
function settles(comesWithin: (timeoutMs: number) => boolean, cpuS: () => number): boolean {
  for (let look = 0, last = cpuS(); look < MOST_LOOKS; look++) {
    if (comesWithin(LOOK_EVERY_MS)) return false;
    const now = cpuS();
    if (now - last < LOOK_EVERY_MS / 1000 * QUIET_SHARE) return true;
    last = now;
  }
  return true;
}
