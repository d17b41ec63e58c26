/**
 * What this process may still do after its realm was emptied: read stdin until the second thread does, write stdout, read
 * clocks, end. Captured when the module loads, before anything else runs; nothing else keeps a reference to `Deno`.
 */

import { HostError } from "./host_error.ts";
import { EXIT_BROKEN, EXIT_TRAPPED, LAST_WORDS_BYTES } from "./protocol.gen.ts";
import { HostGone } from "./ring.ts";
import { Trapped } from "./guest.ts";

const { stdin, stdout, stderr, exit, version } = Deno;
/** There, but not in Deno's own types yet. */
const { cpuUsage } = Deno as unknown as { cpuUsage: () => { user: number; system: number } };
const readStdin = stdin.readSync.bind(stdin);
const writeStdout = stdout.writeSync.bind(stdout);
const writeStderr = stderr.writeSync.bind(stderr);
const now = performance.now.bind(performance);
const wall = Date.now;
const encoder = new TextEncoder();

/** This engine as `hello` names it. */
export const ENGINE = `deno ${version.deno} v8 ${version.v8}`;

/** The clocks of the process. */
export const CLOCKS = { monotonicMs: now, wallMs: wall } as const;

/** Fill the buffer from stdin. Throws HostGone. */
export function readExactly(target: Uint8Array): void {
  for (let done = 0; done < target.length;) {
    const size = readStdin(target.subarray(done));
    if (size === null) throw new HostGone();
    done += size;
  }
}

/** Write all of it to stdout. Throws HostGone when nobody reads any more. */
export function writeAll(data: Uint8Array): void {
  try {
    for (let done = 0; done < data.length;) done += writeStdout(data.subarray(done));
  } catch {
    throw new HostGone();
  }
}

/** CPU time of this process, all threads, in seconds. */
export function cpuS(): number {
  const { user, system } = cpuUsage();
  return (user + system) / 1e6;
}

/** End the process: with a code that the host can name, and at most one line of last words on stderr. */
export function die(error: unknown, code?: number): never {
  if (error instanceof HostGone) exit(0);
  const isTrap = error instanceof Trapped;
  lastWords(isTrap || error instanceof HostError ? error.message : describe(error));
  return exit(code ?? (isTrap ? EXIT_TRAPPED : EXIT_BROKEN));
}

function lastWords(text: string): void {
  try {
    writeStderr(encoder.encode(text.replaceAll(/[^\x20-\x7e]/g, "?")).subarray(0, LAST_WORDS_BYTES));
  } catch {
    return; // nobody listens
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : "an unknown fault";
}
