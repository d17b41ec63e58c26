/**
 * Empties the realm before any code of a guest runs.
 *
 * The guest of the default variant has no way to JavaScript at all: it calls functions that take numbers. This is the
 * wall behind that one. What it does not stop is `import()` of `data:` and `node:` modules; behind it stand Deno's empty
 * permissions and the jail.
 */

/** Globals that the language needs; everything else goes, `Deno` first of all. */
const KEPT: ReadonlySet<string> = new Set([
  ...["Object", "Array", "Map", "Set", "WeakMap", "WeakSet", "WeakRef", "FinalizationRegistry", "Symbol", "Iterator"],
  ...["Uint8Array", "Int8Array", "Uint16Array", "Int16Array", "Int32Array", "Uint32Array", "Float32Array"],
  ...["Float64Array", "BigInt64Array", "BigUint64Array", "Uint8ClampedArray", "ArrayBuffer", "SharedArrayBuffer"],
  ...["DataView", "Atomics", "Math", "JSON", "Number", "String", "Boolean", "BigInt", "RegExp", "Date", "Promise"],
  ...["Proxy", "Reflect", "Error", "TypeError", "RangeError", "SyntaxError", "ReferenceError", "EvalError", "URIError"],
  ...["AggregateError", "parseInt", "parseFloat", "isNaN", "isFinite", "undefined", "NaN", "Infinity", "globalThis"],
  ...["WebAssembly", "Function", "constructor", "dispatchEvent"], // Deno's own exit calls the last one
]);

/** The names of globals that could be neither removed nor blanked. Empty, or something is wrong. */
export function emptyRealm(): string[] {
  const left: string[] = [];
  for (let level: object | null = globalThis; level !== null && level !== Object.prototype;) {
    for (const key of Reflect.ownKeys(level)) {
      if (typeof key === "string" && !KEPT.has(key) && !blank(level, key)) left.push(key);
    }
    level = Object.getPrototypeOf(level);
  }
  blockCodeGeneration();
  freezeIntrinsics();
  return left;
}

function blank(level: object, key: string): boolean {
  return Reflect.deleteProperty(level, key) ||
    Reflect.defineProperty(level, key, { value: undefined, writable: false, configurable: false });
}

function blocked(): never {
  throw new TypeError("blocked");
}

/** No function from text, no further wasm module. */
function blockCodeGeneration(): void {
  const makers = [() => {}, async () => {}, function* () {}, async function* () {}];
  for (const maker of makers) {
    Reflect.defineProperty(Object.getPrototypeOf(maker), "constructor", { value: blocked });
  }
  Reflect.defineProperty(globalThis, "Function", { value: blocked, writable: false, configurable: false });
  for (const name of Reflect.ownKeys(WebAssembly)) {
    if (name !== "RuntimeError" && name !== Symbol.toStringTag) {
      Reflect.defineProperty(WebAssembly, name, { value: blocked, writable: false, configurable: false });
    }
  }
}

function freezeIntrinsics(): void {
  for (const name of KEPT) {
    const value: unknown = Reflect.get(globalThis, name);
    if (value !== globalThis) freezeWithPrototype(value);
  }
  for (const hidden of hiddenIntrinsics()) freezeChain(hidden);
  for (const name of Reflect.ownKeys(WebAssembly)) freezeWithPrototype(Reflect.get(WebAssembly, name));
}

/** Objects that no name leads to: each is reached from a value, up to the end of its prototypes. */
function hiddenIntrinsics(): unknown[] {
  const asyncIterable = (async function* () {})();
  return [
    Uint8Array,
    Uint8Array.prototype,
    [][Symbol.iterator](),
    new Map()[Symbol.iterator](),
    new Set()[Symbol.iterator](),
    ""[Symbol.iterator](),
    "".matchAll(/x/g),
    (function* () {})(),
    Iterator.from({ next: () => ({ done: true, value: undefined }) }),
    [].values().map(() => 0),
    asyncIterable,
    () => {},
    async () => {},
    function* () {},
    async function* () {},
  ];
}

function freezeChain(value: unknown): void {
  for (let level = Object.getPrototypeOf(value); level !== null; level = Object.getPrototypeOf(level)) {
    if (level !== globalThis) freezeWithPrototype(level);
  }
}

function freezeWithPrototype(value: unknown): void {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return;
  Object.freeze(value);
  const prototype: unknown = Reflect.getOwnPropertyDescriptor(value, "prototype")?.value;
  if (typeof prototype === "object" && prototype !== null) Object.freeze(prototype);
}
