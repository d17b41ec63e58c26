/**
 * One sandbox as its host sees it: whole frames in, whole frames out; the twin of `wasm_sandbox/relay.py`.
 *
 * It reads headers that the host wrote, passes on the frames that the guest builds after a look at their type, and
 * adds what only it knows: CPU time, memory, artifacts, the file system.
 */

import { concat } from "./bytes.ts";
import { FsError } from "./errno.ts";
import { asciiJson, buildFrame, splitAttachments, splitFrame } from "./framing.ts";
import type { FileSystem } from "./fs_system.ts";
import { type Guest, NoRoom, Refused, Trapped } from "./guest.ts";
import { HostError } from "./host_error.ts";
import { kindOf } from "./kinds.ts";
import {
  type ArtifactInfo,
  type Done,
  type EngineLimit,
  type FileDone,
  PROTOCOL_VERSION,
  type Ready,
  type RunCell,
  type Start,
} from "./protocol.gen.ts";
import { type OutputOwner, type OutputSource, RawOutput } from "./raw_output.ts";
import { parseToWorker, unreachable } from "./records.ts";
import type { World } from "./world.ts";

const ARTIFACT_FOLDER = "/out";
/** Of all paths in one header, as JSON: half of what a header may have. The files of further ones are left out. */
const ARTIFACT_PATH_BYTES = 256 * 1024;
const MIB = 1024 * 1024;
/** A result up to this size goes out with the `done` that follows: one write here, one waking of the host. */
const HELD_BYTES = 64 * 1024;
const encoder = new TextEncoder();
const NOTHING = new Uint8Array(0);
const UNREADABLE = buildFrame({ attachments: [] });

/** The interpreter as the relay uses it: the default one, or the full Pyodide (ffi_guest.ts). */
export interface Interpreter extends Pick<Guest, "enter" | "hostCall" | "limitMemory" | "memoryRefused">, OutputOwner {
  readonly memory: { readonly size: number };
}

/** Its files. */
export interface Files
  extends
    Pick<FileSystem, "changedUnder" | "generation" | "limit" | "listFiles" | "readFile" | "writeFile">,
    OutputSource {
  readonly quota: Pick<FileSystem["quota"], "refused">;
}

/** The ways out of a sandbox. */
export interface Channel {
  /** Pass a frame on. */
  readonly send: (frame: Uint8Array) => void;
  /** Pass a question on and return the host's answer. */
  readonly ask: (frame: Uint8Array) => Uint8Array;
  /** The request is over; its last frame comes next. */
  readonly finish: () => void;
  /** CPU time of this process in seconds. */
  readonly cpuS: () => number;
}

type Cell = Generator<Uint8Array, void, Uint8Array>;

/** Serves the host's requests with one guest. */
export class GuestHost {
  #open = false;
  /** Nobody hears the guest: it rehearses. */
  #private = false;
  /** The result and what was said after it, while nothing else is. */
  #held: Uint8Array[] = [];
  readonly #raw: RawOutput;

  constructor(
    private readonly guest: Interpreter,
    private readonly world: World,
    private readonly files: Files,
    private readonly channel: Channel,
  ) {
    guest.hostCall = (message) => this.#hostCall(message);
    this.#raw = new RawOutput(files, guest, () => world.monotonicMs(), (frame) => this.#send(frame));
  }

  /** Serve one request and send the frame that ends it. Throws HostError when it is none. */
  handle(frame: Uint8Array): void {
    const cell = this.#serve(frame);
    if (cell === undefined) return;
    for (let step = cell.next(); !step.done;) step = cell.next(this.channel.ask(step.value));
  }

  /** The same for an interpreter in whose realm something may happen while it is idle: `answer` says when to go on. */
  async handleIdling(frame: Uint8Array, answer: (idle: Uint8Array) => Promise<Uint8Array>): Promise<void> {
    const cell = this.#serve(frame);
    if (cell === undefined) return;
    for (let step = cell.next(); !step.done;) step = cell.next(await answer(step.value));
  }

  /** A cell is left to the caller, because it may idle: see `#cell`. */
  #serve(frame: Uint8Array): Cell | undefined {
    const { header, area } = splitFrame(frame);
    const request = parseToWorker(header);
    const parts = splitAttachments(area, request.attachments);
    this.#open = true;
    switch (request.type) {
      case "start":
        this.#start(request, frame);
        break;
      case "cell":
        return this.#cell(request, frame);
      case "write_file":
        this.#fileRequest(() => this.files.writeFile(request.path, parts[0] ?? new Uint8Array(0)));
        break;
      case "read_file":
        this.#fileRequest(() => this.files.readFile(request.path));
        break;
      case "list_files":
        this.#fileRequest(() => encoder.encode(this.files.listFiles().join("\0")));
        break;
      case "tool_result":
      case "wake":
        throw new HostError(`${request.type} without a question`);
      default:
        unreachable(request);
    }
    return undefined;
  }

  /** Let the guest run a cell in private: the tenant's first then finds its code compiled. Leaves no trace. */
  rehearse(number = 0): void {
    this.guest.enter(buildFrame({ type: "noop", number, attachments: [] }));
  }

  /** Let the guest say something in private, because its rehearsals never come here: it has a word ready for a frame
   * that it cannot read. */
  rehearseBridge(): void {
    this.#private = true;
    this.guest.enter(UNREADABLE);
    this.#private = false;
  }

  // --- requests

  #start(request: Start, frame: Uint8Array): void {
    if (request.protocol_version !== PROTOCOL_VERSION) throw new HostError("another version of the protocol");
    this.world.reseed(Uint8Array.fromHex(request.seed));
    this.files.limit(request.files, request.file_bytes);
    this.guest.limitMemory(request.memory_bytes);
    this.guest.enter(frame);
    const ready: Ready = { type: "ready", attachments: [] };
    this.#end(ready);
  }

  /** Yields what an idle guest waits for, and takes the answer. */
  *#cell(request: RunCell, frame: Uint8Array): Cell {
    const marker = this.files.generation;
    this.files.quota.refused.clear();
    this.guest.memoryRefused = 0;
    this.#raw.begin(request.output_bytes);
    const started = this.channel.cpuS();
    let idle = this.#enter(frame);
    while (idle.length > 0) idle = this.#enter(yield this.#question(idle));
    this.#raw.end();
    const cpuS = Math.max(this.channel.cpuS() - started, 0);
    this.#tellRefused();
    const { found, parts, dropped } = this.#artifacts(marker, request.artifacts, request.artifact_bytes);
    const done: Done = {
      type: "done",
      id: request.id,
      cpu_s: cpuS,
      memory_bytes: this.guest.memory.size,
      artifacts: found,
      artifacts_dropped: dropped,
      attachments: parts.map((part) => part.length),
    };
    this.#end(done, parts);
  }

  /** Give a frame to the guest; if it has no memory for it, only what the header says: a sandbox that is full has a
   * MemoryError there, like any other. */
  #enter(frame: Uint8Array): Uint8Array {
    try {
      return this.guest.enter(frame);
    } catch (error) {
      if (!(error instanceof NoRoom)) throw error;
      const { header } = splitFrame(frame);
      return this.guest.enter(buildFrame({ ...parseToWorker(header), attachments: [] }));
    }
  }

  #fileRequest(action: () => Uint8Array | void): void {
    let error: string | null = null;
    let parts: Uint8Array[] = [];
    try {
      const found = action();
      if (found !== undefined) parts = [found];
    } catch (failure) {
      if (!(failure instanceof FsError)) throw failure;
      error = failure.message;
    }
    const done: FileDone = { type: "file_done", error, attachments: parts.map((part) => part.length) };
    this.#end(done, parts);
  }

  /** What the engine did not give the guest during this cell, whether or not the guest let it be seen. */
  #tellRefused(): void {
    for (const [limit, used] of this.files.quota.refused) this.#tellLimit(limit, used);
    if (this.guest.memoryRefused > 0) this.#tellLimit("memory_mb", this.guest.memoryRefused / MIB);
  }

  #tellLimit(limit: EngineLimit["limit"], used: number): void {
    const told: EngineLimit = { type: "engine_limit", limit, used, attachments: [] };
    this.#send(buildFrame(told));
  }

  /** Files under /out that are new or changed since the marker, as many as the caps allow, and how many are left out. */
  #artifacts(marker: number, count: number, size: number) {
    const found: ArtifactInfo[] = [];
    const parts: Uint8Array[] = [];
    if (this.files.generation === marker) return { found, parts, dropped: 0 };
    const changed = this.files.changedUnder(ARTIFACT_FOLDER, marker);
    const total = changed.reduce((sum, file) => sum + file.size, 0);
    if (changed.length > count) this.#tellLimit("artifacts", changed.length);
    if (total > size) this.#tellLimit("artifact_bytes", total);
    let pathBytes = ARTIFACT_PATH_BYTES;
    for (const { path, size: length } of changed) {
      const escaped = asciiJson(path).length;
      if (found.length >= count || length > size || escaped > pathBytes) continue;
      size -= length;
      pathBytes -= escaped;
      found.push({ path });
      parts.push(this.files.readFile(path));
    }
    return { found, parts, dropped: changed.length - found.length };
  }

  #end(header: Ready | Done | FileDone, parts: readonly Uint8Array[] = []): void {
    this.#open = false;
    this.channel.finish();
    this.#send(buildFrame(header, parts));
    this.#sendHeld();
  }

  /** Behind a result that is held back; otherwise at once. */
  #send(frame: Uint8Array): void {
    if (this.#held.length > 0) this.#held.push(frame);
    else this.channel.send(frame);
  }

  #sendHeld(): void {
    const frames = this.#held;
    if (frames.length === 0) return;
    this.#held = [];
    const size = frames.reduce((sum, frame) => sum + frame.length, 0);
    if (size <= 2 * HELD_BYTES) this.channel.send(concat(frames));
    else frames.forEach((frame) => this.channel.send(frame));
  }

  // --- the guest's side

  /** A message of the guest: a frame of one of its own types, passed on as it is. */
  #hostCall(message: Uint8Array): Uint8Array {
    const kind = kindOf(message);
    if (kind !== undefined && this.#private) return NOTHING;
    if (kind === undefined || !this.#open) throw new Refused();
    this.#sendHeld();
    if (this.#raw.waiting && !(this.#raw.behind && kind === "output")) this.#raw.send();
    if (kind === "tool_call" || kind === "wait") return this.channel.ask(message);
    if (kind === "result" && message.length <= HELD_BYTES) this.#held.push(message);
    else this.channel.send(message);
    if (this.#raw.waiting) this.#raw.follow();
    return NOTHING;
  }

  /** An idle guest may only wait: anything else is a broken guest. */
  #question(idle: Uint8Array): Uint8Array {
    if (kindOf(idle) !== "wait") throw new Trapped("the guest's entry function returned something that is no `wait`");
    this.#sendHeld();
    this.#raw.send();
    return idle;
  }
}
