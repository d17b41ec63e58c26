/**
 * The full Pyodide behind the same face as `guest.ts`: messages in, messages out, a cap on its memory.
 *
 * The guest shares this realm, so nothing here can be kept from it; the host believes no more of what comes out than it
 * does anywhere. As everywhere, a fault ends the process.
 */

import type { Booted, Imports } from "./ffi_boot.ts";
import type { Idling } from "./ffi_idle.ts";
import { NoRoom, Refused, Trapped } from "./guest.ts";
import { HostGone } from "./ring.ts";

/** What the prelude (`wasm_sandbox/image/guest_ffi.py`) hands over. */
interface Entrances {
  /** undefined: no memory for the message. */
  readonly enter: (message: Uint8Array) => Uint8Array | undefined;
  readonly print: (stream: string, text: string) => void;
  /** Whether its event loop has something to run. */
  readonly ready: () => boolean;
  /** Whether it waits for the host. */
  readonly asks: () => boolean;
}

/** Emscripten's module, with the cap that its patched glue reads (`wasm_sandbox/image/deno_ffi.py`). */
interface Capped {
  maxHeap: number;
}

/** The cap while the interpreter starts, as of any warm worker. */
const WARM_MEMORY_BYTES = 256 * 1024 * 1024;
const BRIDGE = "_cloche_bridge";

/** One interpreter. Make it, start Pyodide with `change`, then `open` it. */
export class FfiGuest implements Idling {
  /** The most bytes that the guest asked for and did not get; its owner sets it back. */
  memoryRefused = 0;
  /** See `OutputOwner`. Its runner's byte is nowhere that this side sees: what it has unsent may come after. */
  outputState = 0;
  /** Answers the guest's `_host.call`. May throw Refused. */
  hostCall: (message: Uint8Array) => Uint8Array = () => {
    throw new Refused();
  };
  #booted: Booted | undefined;
  #entrances: Entrances | undefined;
  #cap: Capped = { maxHeap: WARM_MEMORY_BYTES };

  constructor(private readonly die: (error: unknown) => never) {}

  /** Note what memory was refused. For `bootPyodide`. */
  readonly change = (imports: Imports): void => {
    const env = imports["env"] ?? {};
    const resize = env["emscripten_resize_heap"] as (bytes: number) => unknown;
    env["emscripten_resize_heap"] = (bytes: number) => {
      const grown = resize(bytes);
      if (!grown) this.memoryRefused = Math.max(this.memoryRefused, bytes >>> 0);
      return grown;
    };
  };

  /** Install the guest's own Python; `interrupt` is its signal flag. */
  open(booted: Booted, prelude: string, interrupt: object): void {
    const { pyodide, module } = booted;
    this.#booted = booted;
    this.#cap = module as unknown as Capped;
    this.limitMemory(WARM_MEMORY_BYTES);
    const found: Record<string, unknown> = {};
    const call = (message: Uint8Array) => this.#call(message);
    pyodide.registerJsModule(BRIDGE, {
      call,
      give: (name: string, value: { copy(): unknown }) => void (found[name] = value.copy()),
    });
    pyodide.runPython(prelude);
    this.#entrances = found as unknown as Entrances;
    pyodide.setInterruptBuffer(interrupt);
  }

  get memory(): { readonly size: number } {
    return { size: this.#booted?.module.HEAPU8.length ?? 0 };
  }

  limitMemory(memoryBytes: number): void {
    this.#cap.maxHeap = Math.floor(memoryBytes / 65536) * 65536;
  }

  /** Call the guest's entry function with a message; its answer. Throws NoRoom; ends the process when the guest is
   * lost. */
  enter(message: Uint8Array): Uint8Array {
    try {
      const answer: unknown = this.#entrances?.enter(message);
      if (answer instanceof Uint8Array) return new Uint8Array(answer);
      if (answer === undefined) throw new NoRoom("no memory left in the sandbox for a message of the host");
      throw new Trapped("the guest's entry function failed");
    } catch (error) {
      if (error instanceof NoRoom) throw error;
      return this.die(asTrap(error));
    }
  }

  /** See `Idling`. */
  get isReady(): boolean {
    return this.#entrances?.ready() === true;
  }

  get asksHost(): boolean {
    return this.#entrances?.asks() === true;
  }

  /** Text of JavaScript's `console`, into the cell's output. */
  print(stream: "stdout" | "stderr", text: string): void {
    try {
      this.#entrances?.print(stream, text.toWellFormed());
    } catch {
      return; // between two cells nobody listens
    }
  }

  /** undefined: refused, an OSError in the guest. */
  #call(message: unknown): Uint8Array | undefined {
    if (!(message instanceof Uint8Array)) return undefined;
    try {
      return this.hostCall(new Uint8Array(message));
    } catch (error) {
      if (error instanceof Refused) return undefined;
      return this.die(error); // it must not become an exception of the guest
    }
  }
}

function asTrap(error: unknown): unknown {
  if (error instanceof Trapped || error instanceof HostGone) return error;
  return new Trapped("an exception came out of the guest");
}
