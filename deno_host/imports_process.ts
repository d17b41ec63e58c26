/** The guest as a process: its end, environment, randomness, messages, and the growth of its memory. */

import { fromByteString } from "./bytes.ts";
import { type Bound, type Box, plain, syscall, wasi } from "./contract.ts";
import { Errno } from "./errno.ts";
import { PAGE_BYTES } from "./guest_memory.ts";

const MAX_RANDOM_BYTES = 64 * 1024, MAX_MESSAGE_BYTES = 4096;
const ABI_MAX_BYTES = 2 ** 32 - PAGE_BYTES;
const EXTRA_MAX_BYTES = 96 * 1024 * 1024;
/** More than asked for is tried first: a fifth, then a tenth, then a twentieth of the present size. */
const OVERGROWTH = [5, 10, 20];

function procExit(box: Box, code: number): never {
  return box.exit(`the guest ended its interpreter: exit code ${code | 0}`);
}

function assertFail(box: Box, condition: number, file: number, line: number): never {
  const where = condition && file ? `${text(box, condition)} at ${text(box, file)}:${line}` : "unknown";
  return box.exit(`the guest ended its interpreter: assertion failed: ${where}`);
}

function text(box: Box, pointer: number): string {
  return box.memory.cstr(pointer, MAX_MESSAGE_BYTES).slice(0, 200).replaceAll(/[^\x20-\x7e]/g, "?");
}

function logLine(box: Box, message: number): void {
  box.files.rawOutput(2, fromByteString(box.memory.cstr(message, MAX_MESSAGE_BYTES) + "\n"));
}

function environSizesGet(box: Box, count: number, size: number): number {
  const lines = box.world.environment;
  box.memory.setU32(count, lines.length);
  box.memory.setU32(size, lines.reduce((sum, line) => sum + line.length + 1, 0));
  return 0;
}

function environGet(box: Box, pointers: number, buffer: number): number {
  box.world.environment.forEach((line, index) => {
    box.memory.setU32(pointers + 4 * index, buffer);
    box.memory.write(buffer, fromByteString(line + "\0"));
    buffer += line.length + 1;
  });
  return 0;
}

function randomGet(box: Box, buffer: number, size: number): number {
  if (size > MAX_RANDOM_BYTES) return Errno.EINVAL;
  box.memory.write(buffer, box.world.random(size));
  return 0;
}

function getProgname(box: Box, buffer: number, size: number): void {
  if (size > 0) box.memory.write(buffer, fromByteString("python".slice(0, size - 1) + "\0"));
}

/** 1 if the memory now has at least `requested` bytes, else 0: the guest sees MemoryError. */
function resizeHeap(box: Box, requested: number): number {
  const limit = heapLimit(box);
  if (requested > limit) {
    box.refuseMemory(requested);
    return 0;
  }
  const old = box.memory.size;
  for (const divisor of OVERGROWTH) {
    const wanted = Math.max(requested, Math.min(old + Math.floor(old / divisor), requested + EXTRA_MAX_BYTES));
    if (box.growMemory(Math.min(limit, Math.ceil(wanted / PAGE_BYTES) * PAGE_BYTES))) return 1;
  }
  return 0;
}

/** The sandbox's limit in whole pages. */
function heapLimit(box: Box): number {
  return Math.floor(Math.min(box.memoryLimit, ABI_MAX_BYTES) / PAGE_BYTES) * PAGE_BYTES;
}

/** Process and memory. */
export const PROCESS_IMPORTS = {
  proc_exit: plain(procExit),
  exit: plain(procExit),
  _abort_js: plain((box) => box.exit("the guest ended its interpreter: abort()")),
  __assert_fail: plain(assertFail),
  environ_sizes_get: wasi(environSizesGet),
  environ_get: wasi(environGet),
  random_get: wasi(randomGet),
  _emscripten_get_progname: plain(getProgname),
  _emscripten_log_formatted: plain((box, _flags: number, message: number) => logLine(box, message)),
  emscripten_log_impl_js: plain(logLine),
  _setitimer_js: plain((_box, _which: number, timeoutMs: number) => (timeoutMs === 0 ? 0 : -1)),
  _emscripten_system: syscall((_box, command: number) => (command ? -Errno.ENOSYS : 0)),
  emscripten_resize_heap: plain(resizeHeap),
  emscripten_get_heap_max: plain(heapLimit),
} as const satisfies Record<string, Bound>;
