/**
 * Plays a list of import calls on the Deno host's handlers: JSON in on stdin, JSON out. For test_deno_imports.py, which
 * plays the same calls on the other engine's.
 *
 * In: `{pages, limit_pages, max_files, max_bytes, seed, calls}`; a call is a name and arguments (i64 as text), or
 * `[null, [[address, hex], ...]]`, which writes memory. Out: per call `[result, crc32 of the memory]`.
 */

import type { Box } from "../../deno_host/contract.ts";
import { CONSTANT_IMPORTS } from "../../deno_host/imports.gen.ts";
import { FileSystem } from "../../deno_host/fs_system.ts";
import { GuestMemory, PAGE_BYTES } from "../../deno_host/guest_memory.ts";
import { HANDLERS } from "../../deno_host/imports.ts";
import { World } from "../../deno_host/world.ts";

type Call = readonly [name: string | null, ...args: (number | string | [number, string][])[]];

interface Script {
  readonly pages: number;
  readonly limit_pages: number;
  readonly max_files: number;
  readonly max_bytes: number;
  readonly seed: string;
  readonly fixed_start_ns: string;
  readonly calls: readonly Call[];
}

class Exited extends Error {}

/** A world whose clock only moves when it is read, as `World.fixed()` of the other engine. */
function fixedWorld(script: Script) {
  const world = new World(new TextEncoder().encode(script.seed), { monotonicMs: () => 0, wallMs: () => 0 });
  let read = 0n;
  const step = () => read += 1000n;
  return {
    environment: world.environment,
    random: (size: number) => world.random(size),
    timeNs: () => BigInt(script.fixed_start_ns) + step(),
    monotonicNs: step,
    monotonicMs: () => Number(step()) / 1e6,
  };
}

function makeBox(script: Script): Box {
  const memory = new GuestMemory(new WebAssembly.Memory({ initial: script.pages, maximum: script.limit_pages }));
  const world = fixedWorld(script);
  return {
    memory,
    world,
    files: new FileSystem({
      baseFiles: new Map([["/lib/python314.zip", new TextEncoder().encode("the standard library")]]),
      maxFiles: script.max_files,
      maxBytes: script.max_bytes,
      clock: world.timeNs,
      random: world.random,
    }),
    memoryLimit: script.limit_pages * PAGE_BYTES,
    growMemory: (bytes) => memory.grow(Math.max(Math.ceil((bytes - memory.size) / PAGE_BYTES), 0)),
    refuseMemory: () => {},
    exit: (message) => {
      throw new Exited(message);
    },
  };
}

function perform(box: Box, [name, ...args]: Call): number | string | null {
  if (name === null) {
    for (const [at, hex] of args[0] as [number, string][]) box.memory.write(at, Uint8Array.fromHex(hex));
    return 0;
  }
  if (!Object.hasOwn(HANDLERS, name)) return CONSTANT_IMPORTS[name] ?? "no such import";
  const values = args.map((value) => typeof value === "string" ? text(value) : value as number);
  try {
    const result = HANDLERS[name as keyof typeof HANDLERS](box)(...values);
    return typeof result === "bigint" ? `${result}` : result ?? null;
  } catch (error) {
    if (error instanceof Exited) return null;
    throw new Error(`${name}(${args.join(", ")})`, { cause: error });
  }
}

/** An i64 ends in `n`; the others are doubles that JSON does not have. */
function text(value: string): number | bigint {
  return value.endsWith("n") ? BigInt(value.slice(0, -1)) : Number(value);
}

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  for (let bit = 0; bit < 8; bit++) index = index & 1 ? (index >>> 1) ^ 0xedb88320 : index >>> 1;
  return index;
});

function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 255] ?? 0);
  return (crc ^ 0xffffffff) >>> 0;
}

const script: Script = JSON.parse(await new Response(Deno.stdin.readable).text());
const box = makeBox(script);
const answers = script.calls.map((call) => [perform(box, call), crc32(box.memory.read(0, box.memory.size))]);
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(answers)));
