/**
 * Starts the full Pyodide from bytes: its own wasm and glue, an archive that has the standard library, `_cloche` and
 * `pyodide`, and a prelude of ours. It does what Pyodide's `loadPyodide` does, without a fetch and without a file.
 */

import { readBootFrame } from "./boot_frame.ts";
import { decodeHeader } from "./framing.ts";
import { HostError } from "./host_error.ts";
import type { Schema } from "./protocol.gen.ts";
// @ts-types="./pyodide_asm.d.ts"
import createPyodideModule from "./pyodide.asm.mjs";
import type { PyodideModule } from "./pyodide_asm.d.ts";

/** The header of the first frame. The attachments: the reader's source, the wasm, the archive, the prelude. */
interface FfiBoot {
  readonly type: "ffi_boot";
  readonly attachments: readonly number[];
  /** sha256 of the image that the archive is from, for `hello`. */
  readonly image: string;
  /** Release of Pyodide, and what its Python says of itself. */
  readonly pyodide: string;
  readonly python: string;
}

/** What Pyodide is made of. */
export interface FfiAssets {
  readonly boot: FfiBoot;
  readonly readerSource: string;
  readonly code: Uint8Array;
  readonly archive: Uint8Array;
  readonly prelude: string;
}

/** The import object of the wasm, to be changed. */
export type Imports = Record<string, Record<string, unknown>>;

/** Pyodide as its own JavaScript sees it; the parts that this host uses. */
export interface Pyodide {
  registerJsModule(name: string, module: object): void;
  setInterruptBuffer(buffer: object): void;
  setStdout(options: RawStream): void;
  setStderr(options: RawStream): void;
  runPython(code: string): unknown;
}

/** Who takes what is written to a descriptor; the number of bytes that were taken. */
export interface RawStream {
  readonly write: (data: Uint8Array) => number;
}

/** The running interpreter. */
export interface Booted {
  readonly pyodide: Pyodide;
  readonly module: PyodideModule;
}

const NUMBER: Schema = { kind: "int", least: 0, below: 2 ** 32 };
const BOOT: Readonly<Record<string, Readonly<Record<string, Schema>>>> = {
  ffi_boot: {
    attachments: { kind: "array", of: NUMBER },
    image: { kind: "text", longest: 64 },
    pyodide: { kind: "text", longest: 32 },
    python: { kind: "text", longest: 32 },
  },
};
const HOME = "/home/web_user";
const ARCHIVE_PATH = "/lib/python314.zip";
const FOLDERS = ["/lib/python3.14/lib-dynload", "/lib/python3.14/site-packages", "/tmp", "/out", HOME];
const ENVIRONMENT = { HOME, LANG: "C.UTF-8", LOGNAME: "web_user", PATH: "/", PWD: HOME, TZ: "UTC", USER: "web_user" };

/** Read the first frame. Throws HostError when it is none, and whatever `read` throws. */
export function readFfiAssets(read: (target: Uint8Array) => void): FfiAssets {
  const { boot, take } = readBootFrame<FfiBoot>(BOOT, read);
  const [reader = 0, code = 0, archive = 0, prelude = 0, ...more] = boot.attachments;
  if (more.length > 0) throw new HostError("boot: too many attachments");
  const readerSource = decodeHeader(take(reader));
  return { boot, readerSource, code: take(code), archive: take(archive), prelude: decodeHeader(take(prelude)) };
}

/** Start it. `change` gets the wasm's imports before they are bound. */
export async function bootPyodide(assets: FfiAssets, change: (imports: Imports) => void): Promise<Booted> {
  const api = makeApi(assets);
  const failed: unknown[] = [];
  const settings = {
    ...{ noImageDecoding: true, noAudioDecoding: true, noWasmDecoding: false, arguments: [], API: api },
    ...{ print: ignore, printErr: ignore, thisProgram: "python", locateFile: (name: string) => `/${name}` },
    preRun: [(module: PyodideModule) => furnish(module, assets.archive, api)],
    instantiateWasm(imports: Imports, done: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void) {
      addErrorMarker(imports);
      change(imports);
      const module = new WebAssembly.Module(assets.code as BufferSource);
      done(new WebAssembly.Instance(module, imports as WebAssembly.Imports), module);
      return {};
    },
    onExit: (code: number) => failed.push(code),
  };
  // Emscripten's glue knows Node, browsers and shells; as a browser's page it touches nothing but `crypto`.
  Reflect.set(globalThis, "window", {});
  const module = await createPyodideModule(settings);
  Reflect.deleteProperty(globalThis, "window");
  if (failed.length > 0) throw new HostError(`Pyodide ended with ${String(failed[0])}`);
  const pyodide = api["finalizeBootstrap"] as () => Pyodide;
  const made = pyodide.call(api);
  (api["initializeStreams"] as (...streams: unknown[]) => void)(undefined, ignore, ignore);
  return { pyodide: made, module };
}

/** What `loadPyodide` calls the API object: the glue adds to it. */
function makeApi({ boot }: FfiAssets): Record<string, unknown> {
  const info = { abi_version: "2026_0", arch: "wasm32", platform: "emscripten_5_0_3", python: boot.python };
  const lockFileContents = { info: { ...info, version: boot.pyodide }, packages: {} };
  const config = {
    ...{ indexURL: "/", packageCacheDir: "/", packageBaseUrl: "/", cdnUrl: "/", jsglobals: globalThis, args: [] },
    ...{ env: ENVIRONMENT, packages: [], enableRunUntilComplete: false, lockFileContents, fullStdLib: false },
  };
  const places = ["NODE", "NODE_COMMONJS", "NODE_ESM", "BUN", "DENO", "BROWSER", "BROWSER_MAIN_THREAD"];
  const elsewhere = [...places, "BROWSER_WEB_WORKER", "SAFARI", "WORKERD"].map((name) => [`IN_${name}`, false]);
  const runtimeEnv = { ...Object.fromEntries(elsewhere), IN_SHELL: true };
  return { config, runtimeEnv, lockFilePromise: Promise.resolve(lockFileContents) };
}

function furnish(module: PyodideModule, archive: Uint8Array, api: Record<string, unknown>): void {
  const version = module.HEAPU32[module._Py_Version >>> 2] ?? 0;
  api["pyVersionTuple"] = [version >>> 24, (version >>> 16) & 255, (version >>> 8) & 255];
  api["sitePackages"] = "/lib/python3.14/site-packages";
  for (const folder of FOLDERS) module.FS.mkdirTree(folder);
  module.FS.writeFile(ARCHIVE_PATH, archive, { canOwn: true }); // not a second copy of 20 MB
  module.FS.chdir(HOME);
  Object.assign(module.ENV, ENVIRONMENT, { PYTHONINSPECT: "1" });
}

/** A value of JavaScript that stands for "an error was raised". */
function addErrorMarker(imports: Imports): void {
  const marker = Symbol("error marker");
  const env = imports["env"] ?? {};
  env["Jsv_GetError_import"] = () => marker;
  env["JsvError_Check"] = (value: unknown) => value === marker;
}

function ignore(): void {}
