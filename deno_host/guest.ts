/**
 * One live interpreter: its memory, its imports and the way in. One process has one.
 *
 * After a trap its state is undefined, and so is all that could be said about it: the process ends on the spot.
 */

import type { Box } from "./contract.ts";
import type { FileSystem } from "./fs_system.ts";
import { GuestMemory, MemoryFault, PAGE_BYTES } from "./guest_memory.ts";
import { bindImports } from "./imports.ts";
import { HostGone } from "./ring.ts";
import type { World } from "./world.ts";

/** The guest is lost: it trapped, exited or overran its stack. */
export class Trapped extends Error {}

/** The guest had no memory for a message, or its entry function failed. A shorter one may still get in. */
export class NoRoom extends Trapped {}

/** The host does not take this message; the guest gets OSError. */
export class Refused extends Error {}

/** What a guest is made of. */
export interface GuestSetup {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly world: World;
  readonly files: FileSystem;
  /** Cap of the linear memory until `limitMemory`. */
  readonly memoryBytes: number;
  /** Size of the shim's buffer, for messages and replies. */
  readonly bufferBytes: number;
  /** Address of the byte that tells whether the guest's runner has unsent output. */
  readonly outputStateAt: number;
  /** Ends the process. */
  readonly die: (error: unknown) => never;
}

interface Shim {
  readonly shim_enter: (at: number, length: number) => number;
  readonly shim_reply: () => number;
  readonly shim_buffer: (length: number) => number;
}

/** A fresh interpreter of an image. */
export class Guest implements Box {
  readonly memory: GuestMemory;
  readonly files: FileSystem;
  readonly world: World;
  memoryLimit: number;
  /** The most bytes that the guest asked for and did not get; its owner sets it back. */
  memoryRefused = 0;
  /** Answers the guest's `_host.call`. May throw Refused. */
  hostCall: (message: Uint8Array) => Uint8Array = () => {
    throw new Refused();
  };
  #pendingReply: Uint8Array = new Uint8Array(0);
  readonly #shim: Shim;
  readonly #buffer: number;
  readonly #bufferBytes: number;
  readonly #outputStateAt: number;
  readonly #die: (error: unknown) => never;

  constructor(setup: GuestSetup) {
    this.memory = new GuestMemory(setup.memory);
    this.files = setup.files;
    this.world = setup.world;
    this.memoryLimit = setup.memoryBytes;
    this.#die = setup.die;
    this.#bufferBytes = setup.bufferBytes;
    this.#outputStateAt = setup.outputStateAt;
    const bridge = {
      call: (message: number, length: number) => this.#call(message, length),
      fetch: (target: number) => this.#fetch(target),
    };
    const imports = bindImports(setup.module, setup.memory, this, bridge, setup.die);
    this.#shim = new WebAssembly.Instance(setup.module, imports).exports as unknown as Shim; // image/link.py exports it
    this.#buffer = this.#shim.shim_buffer(0) >>> 0;
  }

  /** Call the guest's entry function with a message; its answer. Throws NoRoom; ends the process when the guest is
   * lost. */
  enter(message: Uint8Array): Uint8Array {
    try {
      const at = this.#place(message.length);
      this.memory.write(at, message);
      const answered = this.#shim.shim_enter(at, message.length);
      if (answered === 0) return new Uint8Array(0);
      if (answered === -1) throw new NoRoom("the guest's entry function failed");
      return this.memory.read(this.#shim.shim_reply() >>> 0, answered >>> 0);
    } catch (error) {
      if (error instanceof NoRoom) throw error;
      return this.#die(asTrap(error));
    }
  }

  /** Another cap than the one at creation: a warm worker learns its tenant's later. */
  limitMemory(memoryBytes: number): void {
    this.memoryLimit = memoryBytes;
  }

  /** See `OutputOwner`. */
  get outputState(): number {
    return this.memory.read(this.#outputStateAt, 1)[0] ?? 0;
  }

  set outputState(state: number) {
    this.memory.write(this.#outputStateAt, new Uint8Array([state]));
  }

  growMemory(newBytes: number): boolean {
    if (newBytes > this.memoryLimit) {
      this.refuseMemory(newBytes);
      return false;
    }
    const pages = Math.ceil((newBytes - this.memory.size) / PAGE_BYTES);
    return pages <= 0 || this.memory.grow(pages);
  }

  refuseMemory(newBytes: number): void {
    this.memoryRefused = Math.max(this.memoryRefused, newBytes);
  }

  exit(message: string): never {
    return this.#die(new Trapped(message));
  }

  #place(length: number): number {
    if (length <= this.#bufferBytes) return this.#buffer;
    const at = this.#shim.shim_buffer(length) >>> 0;
    if (at === 0) throw new NoRoom("no memory left in the sandbox for a message of the host");
    return at;
  }

  #call(message: number, length: number): number {
    let reply: Uint8Array;
    try {
      reply = this.hostCall(this.memory.read(message, length));
    } catch (error) {
      if (error instanceof Refused || error instanceof MemoryFault) return -1;
      throw error;
    }
    if (reply.length <= this.#bufferBytes) this.memory.write(this.#buffer, reply);
    else this.#pendingReply = reply;
    return reply.length;
  }

  #fetch(target: number): void {
    const reply = this.#pendingReply;
    this.#pendingReply = new Uint8Array(0);
    try {
      this.memory.write(target, reply);
    } catch (error) {
      if (!(error instanceof MemoryFault)) throw error;
    }
  }
}

/** What V8 throws out of wasm, in the host's words. Errors of our own stay what they are. */
function asTrap(error: unknown): unknown {
  if (error instanceof MemoryFault) return new Trapped("the guest's reply lies outside its memory");
  if (error instanceof WebAssembly.RuntimeError) return new Trapped(`wasm trap: ${error.message}`);
  if (error instanceof RangeError) return new Trapped("wasm trap: call stack exhausted");
  if (error instanceof Trapped || error instanceof HostGone) return error;
  return new Trapped("an exception came out of the guest");
}
