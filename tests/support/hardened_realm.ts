/**
 * JavaScript as an attacker would run it in the Deno host, if he ever could: the realm is emptied as the host does it, then
 * everything that leads out is tried. Prints what each attempt gave, as JSON. For test_deno_hardening.py.
 */

import { emptyRealm } from "../../deno_host/harden.ts";

const write = Deno.stdout.writeSync.bind(Deno.stdout), exit = Deno.exit;
const encoder = new TextEncoder();
const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);

type Attempt = () => unknown;
const global = globalThis as unknown as Record<string, unknown>;

/** What only a working way out returns without throwing. Undefined counts as blocked. */
const ATTEMPTS: Readonly<Record<string, Attempt>> = {
  deno: () => global["Deno"],
  fetch: () => global["fetch"],
  worker: () => global["Worker"],
  websocket: () => global["WebSocket"],
  process: () => global["process"],
  console: () => global["console"],
  timers: () => global["setTimeout"],
  eval: () => global["eval"],
  function_name: () => new (global["Function"] as FunctionConstructor)("return 1")(),
  function_of_function: () => (() => {}).constructor("return 1")(),
  function_of_async: () => (async () => {}).constructor("return 1"),
  function_of_generator: () => (function* () {}).constructor("return 1"),
  function_of_async_generator: () => (async function* () {}).constructor("return 1"),
  function_of_class: () => (class {}).constructor("return 1")(),
  wasm_module: () => new WebAssembly.Module(wasm),
  wasm_compile: () => WebAssembly.compile(wasm),
  wasm_validate: () => WebAssembly.validate(wasm),
  wasm_restored: () => Reflect.deleteProperty(WebAssembly, "Module") || undefined,
  object_prototype: () => Reflect.set(Object.prototype, "polluted", 1) || undefined,
  array_prototype: () => Reflect.set(Array.prototype, "push", 1) || undefined,
  error_hook: () => Reflect.set(Error, "prepareStackTrace", () => 1) || undefined,
  typed_array_prototype: () => Reflect.set(Uint8Array.prototype, "set", 1) || undefined,
  typed_array_base: () => Reflect.set(Object.getPrototypeOf(Uint8Array.prototype), "set", 1) || undefined,
  iterator_prototype: () => Reflect.set(Object.getPrototypeOf([][Symbol.iterator]()), "next", 1) || undefined,
};

/** Modules that can still be loaded: what they can do without permission. */
const MODULES: Readonly<Record<string, () => Promise<unknown>>> = {
  remote: () => import("https://example.com/x.js" as string),
  npm: () => import("npm:chalk" as string),
  file: () => import("file:///etc/passwd" as string),
  own_folder: () => import("../../deno_host/bytes_none.ts" as string),
  node_fs: async () => (await import("node:fs")).readFileSync("/etc/passwd"),
  node_write: async () => (await import("node:fs")).writeFileSync("/tmp/cloche-escape", "x"),
  node_spawn: async () => (await import("node:child_process")).spawnSync("/bin/true").status === 0 || undefined,
  node_env: async () => Object.keys((await import("node:process")).default.env).length || undefined,
  node_net: async () => {
    const { connect } = await import("node:net");
    return await new Promise((done, fail) => connect(9, "127.0.0.1").once("connect", done).once("error", fail));
  },
};

async function outcome(attempt: Attempt): Promise<string> {
  try {
    const result = await attempt();
    return result === undefined ? "blocked" : "reached";
  } catch {
    return "blocked";
  }
}

const left = emptyRealm();
const outcomes: Record<string, string> = { kept_globals: left.length === 0 ? "blocked" : `reached: ${left.join(" ")}` };
for (const [name, attempt] of Object.entries({ ...ATTEMPTS, ...MODULES })) outcomes[name] = await outcome(attempt);
write(encoder.encode(JSON.stringify(outcomes) + "\n"));
exit(0);
