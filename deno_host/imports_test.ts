import { assertEquals } from "./assert_test.ts";
import type { Box } from "./contract.ts";
import { FileSystem } from "./fs_system.ts";
import { GuestMemory } from "./guest_memory.ts";
import { CONSTANT_IMPORTS, HANDLED_IMPORTS } from "./imports.gen.ts";
import { bindImports } from "./imports.ts";
import { World } from "./world.ts";

/** A module that imports one function without parameters and exports it again as `run`. */
function moduleOf(space: string, name: string): WebAssembly.Module {
  const text = (value: string) => [value.length, ...new TextEncoder().encode(value)];
  const section = (id: number, body: number[]) => [id, body.length, ...body];
  return new WebAssembly.Module(
    new Uint8Array([
      ...[0, 97, 115, 109, 1, 0, 0, 0],
      ...section(1, [1, 0x60, 0, 0]),
      ...section(2, [1, ...text(space), ...text(name), 0, 0]),
      ...section(7, [1, ...text("run"), 0, 0]),
    ]),
  );
}

/** What calling the import leads to: how the guest ended, or nothing. */
function callImport(space: string, name: string): { ended: string | undefined; failed: unknown } {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const world = new World(new Uint8Array(32), { monotonicMs: () => 0, wallMs: () => 0 });
  let ended: string | undefined, failed: unknown;
  const box: Box = {
    memory: new GuestMemory(memory),
    world,
    files: new FileSystem({
      baseFiles: new Map(),
      maxFiles: 0,
      maxBytes: 0,
      clock: () => 0n,
      random: (size) => new Uint8Array(size),
    }),
    memoryLimit: 65536,
    growMemory: () => false,
    refuseMemory: () => {},
    exit: (message) => {
      ended = message;
      throw new Error(message);
    },
  };
  const fail = (error: unknown): never => {
    failed = error;
    throw error;
  };
  const module = moduleOf(space, name);
  const bridge = { call: () => -1, fetch: () => {} };
  try {
    const { run } = new WebAssembly.Instance(module, bindImports(module, memory, box, bridge, fail)).exports;
    (run as () => void)();
  } catch {
    return { ended, failed };
  }
  return { ended, failed };
}

Deno.test("an import that no table names ends the guest when it is called", () => {
  for (const name of ["JsvNum_fromInt", "emscripten_asm_const_int", "constructor", "toString", "__proto__"]) {
    assertEquals(callImport("env", name).ended, `the guest called ${name}, which does not exist here`);
  }
});

Deno.test("an import that is always refused never ends the guest", () => {
  for (const name of Object.keys(CONSTANT_IMPORTS)) assertEquals(callImport("env", name).ended, undefined, name);
});

Deno.test("a handler that ends the guest says so, and what it throws never returns into wasm", () => {
  const { ended, failed } = callImport("env", "_abort_js");
  assertEquals(ended, "the guest ended its interpreter: abort()");
  assertEquals(failed instanceof Error, true);
});

Deno.test("no import is in two tables", () => {
  const names = [...Object.keys(CONSTANT_IMPORTS), ...HANDLED_IMPORTS];
  assertEquals(names.length, new Set(names).size);
});
