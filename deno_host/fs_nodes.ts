/**
 * What the tree of files is made of: plain data, one object per file, and the account of what a guest has used.
 *
 * Names and link targets are byte strings (bytes.ts). Times are nanoseconds since 1970; reads do not touch `atimeNs`.
 */

import { Errno, FsError } from "./errno.ts";

/** Type bits of `st_mode`. */
export const TYPE_FILE = 0o100000, TYPE_DIRECTORY = 0o040000, TYPE_SYMLINK = 0o120000, TYPE_DEVICE = 0o020000;

/** The few devices. */
export type DeviceName = "null" | "stdin" | "stdout" | "stderr" | "urandom";

/** Attributes that a node begins with. */
export interface NodeSetup {
  readonly ino?: number;
  readonly permissions: number;
  readonly timeNs?: bigint;
  readonly sealed?: boolean;
  readonly fixed?: boolean;
}

/** What all kinds have in common. */
abstract class BaseNode {
  abstract readonly typeBits: number;
  abstract readonly size: number;
  ino: number;
  permissions: number;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  /** The tree's generation when the node got its present place. */
  placed = 0;
  /** False once it has no name any more; an open file can outlive its name. */
  linked = true;
  /** Part of the image: neither the node nor a directory's list of entries can be changed. */
  readonly sealed: boolean;
  /** Neither removed nor renamed. */
  fixed: boolean;

  constructor(setup: NodeSetup) {
    this.ino = setup.ino ?? 0;
    this.permissions = setup.permissions;
    this.atimeNs = this.mtimeNs = this.ctimeNs = setup.timeNs ?? 0n;
    this.sealed = setup.sealed ?? false;
    this.fixed = setup.fixed ?? false;
  }

  get mode(): number {
    return this.typeBits | this.permissions;
  }
}

/** A plain file. */
export class FileNode extends BaseNode {
  readonly typeBits = TYPE_FILE;
  /** The tree's generation at the last change of the content. */
  written = 0;
  /** Open file descriptions that refer to it. */
  opens = 0;
  #room: Uint8Array;
  #size: number;

  constructor(setup: NodeSetup, content: Uint8Array = new Uint8Array(0)) {
    super(setup);
    this.#room = content;
    this.#size = content.length;
  }

  get size(): number {
    return this.#size;
  }

  /** A view of the content; good until the next change. */
  content(from = 0, to = this.#size): Uint8Array {
    return this.#room.subarray(Math.min(from, this.#size), Math.min(to, this.#size));
  }

  /** Cut or extend with zeros. The quota was asked before. Room never exceeds the size by more than an eighth. */
  setSize(size: number): void {
    const slack = size + Math.floor(size / 8) + 4096;
    if (size > this.#room.length || this.#room.length > slack) {
      const growing = size > this.#size && this.#size > 0;
      const room = new Uint8Array(growing ? size + Math.floor(size / 8) : size);
      room.set(this.content(0, size));
      this.#room = room;
    } else if (size < this.#size) {
      this.#room.fill(0, size, this.#size);
    }
    this.#size = size;
  }

  /** Overwrite inside the present size. */
  put(position: number, data: Uint8Array): void {
    this.#room.set(data, position);
  }
}

/** A folder. The root is its own parent. */
export class DirectoryNode extends BaseNode {
  readonly typeBits = TYPE_DIRECTORY;
  readonly size = 4096;
  readonly entries = new Map<string, FsNode>();
  parent: DirectoryNode;

  constructor(setup: NodeSetup, parent?: DirectoryNode) {
    super(setup);
    this.parent = parent ?? this;
  }
}

/** A symbolic link; its target is looked up inside the sandbox like any path. */
export class SymlinkNode extends BaseNode {
  readonly typeBits = TYPE_SYMLINK;

  constructor(setup: NodeSetup, readonly target: string) {
    super(setup);
  }

  get size(): number {
    return this.target.length;
  }
}

/** One of the few devices. */
export class DeviceNode extends BaseNode {
  readonly typeBits = TYPE_DEVICE;
  readonly size = 0;

  constructor(setup: NodeSetup, readonly name: DeviceName) {
    super(setup);
  }
}

/** Any node. */
export type FsNode = FileNode | DirectoryNode | SymlinkNode | DeviceNode;

/** Limits that a quota enforces, by the name that the host's user knows. */
export type QuotaLimit = "files" | "file_bytes";

/** What the guest may create and what it has. Holes count as bytes; so do targets of symbolic links. */
export class Quota {
  files = 0;
  bytes = 0;
  /** What was asked for in vain, at its highest; whoever reads it empties it. */
  readonly refused = new Map<QuotaLimit, number>();

  constructor(public maxFiles: number, public maxBytes: number) {}

  /** Count one more file. Throws ENOSPC. */
  takeFile(): void {
    if (this.files >= this.maxFiles) this.#refuse("files", this.files + 1);
    this.files++;
  }

  /** Count bytes; asked before anything is allocated. Throws ENOSPC. */
  takeBytes(count: number): void {
    this.checkBytes(count);
    this.bytes += count;
  }

  /** ENOSPC, and a note of it, unless `count` bytes more fit. */
  checkBytes(count: number): void {
    if (count > this.maxBytes - this.bytes) this.#refuse("file_bytes", this.bytes + count);
  }

  #refuse(limit: QuotaLimit, wanted: number): never {
    this.refused.set(limit, Math.max(wanted, this.refused.get(limit) ?? 0));
    throw new FsError(Errno.ENOSPC);
  }

  /** The node is gone for good. */
  giveBack(node: FsNode): void {
    this.files--;
    if (node instanceof FileNode || node instanceof SymlinkNode) this.bytes -= node.size;
  }
}
