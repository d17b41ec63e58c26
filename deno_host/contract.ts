/**
 * What a handler of an import may use, and the layer between wasm and handlers.
 *
 * The rules of every handler: its pointers and numbers are an attacker's, so memory is reached through `GuestMemory`
 * only, loops and copies have a constant bound, and nothing is allocated that neither a constant nor a quota bounds.
 */

import { Errno, FsError } from "./errno.ts";
import type { FileSystem } from "./fs_system.ts";
import { type GuestMemory, MemoryFault } from "./guest_memory.ts";
import type { World } from "./world.ts";

/** The part of a sandbox that handlers use. */
export interface Box {
  readonly memory: GuestMemory;
  readonly files: FileSystem;
  readonly world: Pick<World, "timeNs" | "monotonicNs" | "monotonicMs" | "random" | "environment">;
  /** Bytes that the linear memory may reach. */
  readonly memoryLimit: number;
  /** Grow the linear memory to at least this. */
  growMemory(newBytes: number): boolean;
  /** Note that the guest asked for more memory than its limit. */
  refuseMemory(newBytes: number): void;
  /** End the process: the guest is lost. */
  exit(message: string): never;
}

/** An argument or result of wasm: i32 (unsigned here) and f64 are numbers, i64 is a bigint. */
export type Wasm = number | bigint;

/** A function that wasm can call. Written by `syscall`, `wasi` or `plain`, which convert and catch. */
export type Bound = (box: Box) => (...args: Wasm[]) => Wasm | void;

type Handler<A extends Wasm[]> = (box: Box, ...args: A) => Wasm | void;

/** An import in the Linux convention: a failure is a negative error number. */
export function syscall<A extends Wasm[]>(handler: Handler<A>): Bound {
  return bound(handler, -Errno.EFAULT, (error) => -error.errno);
}

/** An import in the WASI convention: the result is an error number, 0 for success. */
export function wasi<A extends Wasm[]>(handler: Handler<A>): Bound {
  return bound(handler, Errno.EFAULT, (error) => error.errno);
}

/** Any other import; `fault` is its answer to a pointer that leads outside the memory. */
export function plain<A extends Wasm[]>(handler: Handler<A>, fault: Wasm = 0): Bound {
  return bound(handler, fault, (error) => {
    throw error;
  });
}

/** Decode arguments, call, turn what is foreseen into an answer. What else is thrown ends the process (see guest.ts). */
function bound<A extends Wasm[]>(handler: Handler<A>, fault: Wasm, failed: (error: FsError) => Wasm): Bound {
  return (box) => (...args) => {
    try {
      for (let index = 0; index < args.length; index++) {
        const value = args[index];
        // An i32 arrives signed; an f64 that is no i32 stays as it is.
        if (typeof value === "number" && (value | 0) === value) args[index] = value >>> 0;
      }
      // The arity and kinds are wasm's own, checked by V8 when it calls.
      return handler(box, ...(args as A));
    } catch (error) {
      if (error instanceof MemoryFault) return fault;
      if (error instanceof FsError) return failed(error);
      throw error;
    }
  };
}
