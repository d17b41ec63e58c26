/**
 * Everything that wasm can call, as one object for its instantiation. An allow list: constants and handlers come from
 * tables that are generated from `wasm_sandbox/imports/`; whatever stands in neither ends the process.
 */

import type { Bound, Box, Wasm } from "./contract.ts";
import { CONSTANT_IMPORTS, type HANDLED_IMPORTS } from "./imports.gen.ts";
import { CLOCK_IMPORTS } from "./imports_clocks.ts";
import { DESCRIPTOR_IMPORTS } from "./imports_descriptors.ts";
import { PATH_IMPORTS } from "./imports_paths.ts";
import { PROCESS_IMPORTS } from "./imports_process.ts";

/** One handler per name: a name too few or too many does not compile. */
export const HANDLERS: Readonly<Record<(typeof HANDLED_IMPORTS)[number], Bound>> = {
  ...CLOCK_IMPORTS,
  ...DESCRIPTOR_IMPORTS,
  ...PATH_IMPORTS,
  ...PROCESS_IMPORTS,
};

/** What a function of the host may throw ends up here; it never returns into wasm. */
export type Fail = (error: unknown) => never;

/** The two functions of the bridge. */
export interface Bridge {
  /** Give the guest's message to the host; the length of the reply, or -1. */
  readonly call: (message: number, length: number) => number;
  /** Write the long reply of the last call there. */
  readonly fetch: (target: number) => void;
}

/** The imports of a module, each ready to be called by wasm. */
export function bindImports(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  box: Box,
  bridge: Bridge,
  fail: Fail,
): WebAssembly.Imports {
  const bound = new Map<string, WebAssembly.ModuleImports>();
  for (const { module: space, name, kind } of WebAssembly.Module.imports(module)) {
    const group = bound.get(space) ?? {};
    bound.set(space, group);
    if (kind === "memory") group[name] = memory;
    else group[name] = space === "host" ? bridgeFunction(name, bridge, fail) : importFunction(name, box, fail);
  }
  return Object.fromEntries(bound);
}

function importFunction(name: string, box: Box, fail: Fail): (...args: Wasm[]) => Wasm | void {
  if (Object.hasOwn(HANDLERS, name)) {
    return guarded(HANDLERS[name as keyof typeof HANDLERS](box), fail);
  }
  if (Object.hasOwn(CONSTANT_IMPORTS, name)) {
    const answer = CONSTANT_IMPORTS[name] ?? 0;
    return () => answer;
  }
  return () => box.exit(`the guest called ${name}, which does not exist here`);
}

function bridgeFunction(name: string, bridge: Bridge, fail: Fail): (...args: Wasm[]) => Wasm | void {
  switch (name) {
    case "call": // on the way of every message: written out, because collected arguments cost
      return (message, length) => {
        try {
          return bridge.call(Number(message) >>> 0, Number(length) >>> 0);
        } catch (error) {
          return fail(error);
        }
      };
    case "fetch":
      return guarded((target) => bridge.fetch(Number(target) >>> 0), fail);
    default:
      throw new TypeError(`the image asks for host.${name}`);
  }
}

/** wasm must never see an exception of the host: its own handlers for C++ and longjmp would catch it. */
function guarded(work: (...args: Wasm[]) => Wasm | void, fail: Fail): (...args: Wasm[]) => Wasm | void {
  return (...args) => {
    try {
      return work(...args);
    } catch (error) {
      return fail(error);
    }
  };
}
