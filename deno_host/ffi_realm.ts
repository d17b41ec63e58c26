/**
 * The realm of a guest that may run JavaScript: what the language has, and tools without a way out.
 *
 * This is tidiness and one more obstacle, no wall: JavaScript can `import("node:...")` and start from a fresh realm. What
 * holds such a guest are Deno's empty permissions and the jail (docs/engines.md).
 */

/** Globals that stay. None of them reaches a file, a process or the network, with or without a permission. */
const KEPT: ReadonlySet<string> = new Set([
  ...["Object", "Array", "Map", "Set", "WeakMap", "WeakSet", "WeakRef", "FinalizationRegistry", "Symbol", "Iterator"],
  ...["Uint8Array", "Int8Array", "Uint16Array", "Int16Array", "Int32Array", "Uint32Array", "Float32Array"],
  ...["Float64Array", "Float16Array", "BigInt64Array", "BigUint64Array", "Uint8ClampedArray", "ArrayBuffer"],
  ...["SharedArrayBuffer", "DataView", "Atomics", "Math", "JSON", "Number", "String", "Boolean", "BigInt", "RegExp"],
  ...["Date", "Promise", "Proxy", "Reflect", "Error", "TypeError", "RangeError", "SyntaxError", "ReferenceError"],
  ...["EvalError", "URIError", "AggregateError", "SuppressedError", "DisposableStack", "AsyncDisposableStack"],
  ...["parseInt", "parseFloat", "isNaN", "isFinite", "undefined", "NaN", "Infinity", "globalThis", "self", "Intl"],
  ...["Temporal", "eval", "Function", "WebAssembly", "constructor", "escape", "unescape", "encodeURI", "decodeURI"],
  ...["encodeURIComponent", "decodeURIComponent", "TextEncoder", "TextDecoder", "URL", "URLSearchParams", "URLPattern"],
  ...["atob", "btoa", "structuredClone", "queueMicrotask", "setTimeout", "clearTimeout", "setInterval"],
  ...["clearInterval", "performance", "crypto", "Crypto", "CryptoKey", "SubtleCrypto", "console", "Event"],
  ...["EventTarget", "CustomEvent", "ErrorEvent", "MessageEvent", "AbortController", "AbortSignal", "DOMException"],
  ...["Blob", "File", "FormData", "Headers", "ReadableStream", "WritableStream", "TransformStream", "ImageData"],
  ...["CompressionStream", "DecompressionStream", "TextEncoderStream", "TextDecoderStream"],
  ...["dispatchEvent", "addEventListener", "removeEventListener", "reportError"],
]);

/** The names of globals that could be neither removed nor blanked. Empty, or something is wrong. */
export function pruneRealm(): string[] {
  const left: string[] = [];
  for (let level: object | null = globalThis; level !== null && level !== Object.prototype;) {
    for (const key of Reflect.ownKeys(level)) {
      if (typeof key === "string" && !KEPT.has(key) && !blank(level, key)) left.push(key);
    }
    level = Object.getPrototypeOf(level);
  }
  return left;
}

/** An exception that nobody in JavaScript caught is the guest's own affair: Deno would end the process. Told in the cell. */
export function keepErrorsInside(): void {
  addEventListener("error", (event) => {
    event.preventDefault();
    globalThis["console"].error(`Uncaught ${String(event.message)}`);
  });
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    globalThis["console"].error(`Uncaught (in promise) ${String(event.reason)}`);
  });
}

/** Let `console` print into the cell: standard output and error of this process carry frames and last words. */
export function replaceConsole(print: (stream: "stdout" | "stderr", text: string) => void): void {
  const out = (...values: unknown[]) => print("stdout", line(values));
  const err = (...values: unknown[]) => print("stderr", line(values));
  const console = { log: out, info: out, debug: out, dir: out, table: out, trace: err, warn: err, error: err };
  const assert = (condition: unknown, ...values: unknown[]) =>
    condition ? undefined : err("Assertion failed", ...values);
  Reflect.set(globalThis, "console", { ...console, assert });
}

function line(values: readonly unknown[]): string {
  return values.map(shown).join(" ") + "\n";
}

function shown(value: unknown): string {
  if (typeof value !== "object" || value === null || value instanceof Error) return String(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

function blank(level: object, key: string): boolean {
  return Reflect.deleteProperty(level, key) ||
    Reflect.defineProperty(level, key, { value: undefined, writable: false, configurable: false });
}
