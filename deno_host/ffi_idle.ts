/**
 * What a guest with JavaScript does when its event loop has nothing to run: let JavaScript's own go on, until a promise
 * that Python awaits has called back, a timer of Python's is due, a tool has answered, or the host interrupts.
 *
 * The host is asked only while tool calls are open, and then in short turns, because whoever waits for it blocks.
 */

import { buildFrame, splitFrame } from "./framing.ts";
import { CLOCKS } from "./platform.ts";
import { parseToWorker } from "./records.ts";

/** Pauses grow to this: so late JavaScript is noticed. */
const LONGEST_PAUSE_MS = 5;
/** The longest turn of the host while JavaScript has to wait. */
const LONGEST_TURN_MS = 20;
const later = setTimeout;
const wake = () => buildFrame({ type: "wake", attachments: [], results: [] });

/** What is asked of the guest. */
export interface Idling {
  /** Its event loop has something to run: JavaScript called back, or an interrupt was noticed. */
  readonly isReady: boolean;
  /** Tool calls are open. */
  readonly asksHost: boolean;
}

/** Answers the `wait` frames of an idle guest. */
export class Idler {
  constructor(
    private readonly guest: Idling,
    private readonly ask: (question: Uint8Array) => Uint8Array,
    private readonly interrupted: () => boolean,
  ) {}

  /** A `wake` frame, once the guest can go on. */
  async answer(idle: Uint8Array): Promise<Uint8Array> {
    const { timeout_s: timeoutS } = JSON.parse(splitFrame(idle).header) as { timeout_s: number | null };
    const end = timeoutS === null ? Infinity : CLOCKS.monotonicMs() + timeoutS * 1000;
    for (let turn = 0;; turn++) {
      await pause(Math.min(turn, LONGEST_PAUSE_MS, Math.max(end - CLOCKS.monotonicMs(), 0)));
      const left = end - CLOCKS.monotonicMs();
      if (this.guest.isReady || left <= 0 || this.interrupted()) return wake();
      if (!this.guest.asksHost) continue;
      const answer = this.ask(question(Math.min(left, turn, LONGEST_TURN_MS)));
      if (hasResults(answer)) return answer;
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => later(resolve, ms));
}

function question(ms: number): Uint8Array {
  return buildFrame({ type: "wait", timeout_s: ms / 1000, any_result: true, attachments: [] });
}

function hasResults(answer: Uint8Array): boolean {
  const frame = parseToWorker(splitFrame(answer).header);
  return frame.type !== "wake" || frame.results.length > 0;
}
