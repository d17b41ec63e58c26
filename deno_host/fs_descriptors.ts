/**
 * Open files: descriptor numbers, what they share after `dup`, reading, writing and seeking.
 *
 * The number of descriptors is capped. A read returns no more than the file has; a write asks the quota through the
 * tree. Positions are bigint, because a guest may seek to any i64.
 */

import { Errno, FsError } from "./errno.ts";
import { DeviceNode, DirectoryNode, FileNode, type FsNode } from "./fs_nodes.ts";
import type { Tree } from "./fs_tree.ts";

/** Caps. */
export const MAX_DESCRIPTORS = 256, MAX_DEVICE_READ_BYTES = 64 * 1024;
const MAX_OFFSET = (1n << 63n) - 1n;

/** Flags of `open`. */
export const O_ACCMODE = 0o3, O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2;
/** Flags of `open`. */
export const O_CREAT = 0o100, O_EXCL = 0o200, O_TRUNC = 0o1000, O_APPEND = 0o2000, O_NONBLOCK = 0o4000;
/** Flags of `open`. */
export const O_DIRECTORY = 0o200000, O_NOFOLLOW = 0o400000, O_CLOEXEC = 0o2000000;

const SEEK_CUR = 1, SEEK_END = 2;
const NOTHING = new Uint8Array(0);

/** Takes bytes that the guest wrote to its raw stdout (1) or stderr (2). */
export type Output = (stream: 1 | 2, data: Uint8Array) => void;

/** An open file description: what all descriptors made by `dup` share. */
export class OpenFile {
  position = 0n;
  /** Names of a directory as they were when reading it began. */
  listing: readonly string[] | undefined;
  descriptors = 0;

  constructor(readonly node: FsNode, public flags: number) {}
}

/** One entry of a directory: name, node and the position behind it. */
export interface DirectoryEntry {
  readonly name: string;
  readonly node: FsNode;
  readonly next: number;
}

/** The descriptor table of one sandbox. */
export class Descriptors {
  readonly table = new Map<number, OpenFile>();
  readonly closeOnExec = new Set<number>();

  constructor(
    private readonly tree: Tree,
    private readonly random: (size: number) => Uint8Array,
    private readonly output: Output,
  ) {}

  /** The description behind a number. Throws EBADF. */
  get(fd: number): OpenFile {
    const file = this.table.get(fd);
    if (file === undefined) throw new FsError(Errno.EBADF);
    return file;
  }

  /** EMFILE unless one more descriptor fits. */
  checkRoom(): void {
    if (this.table.size >= MAX_DESCRIPTORS) throw new FsError(Errno.EMFILE);
  }

  /** The lowest free number from `lowest` on, now meaning `file`. */
  add(file: OpenFile, lowest = 0, closeOnExec = false): number {
    for (let fd = lowest; fd < MAX_DESCRIPTORS; fd++) {
      if (!this.table.has(fd)) {
        this.#assign(fd, file, closeOnExec);
        return fd;
      }
    }
    throw new FsError(Errno.EMFILE);
  }

  /** `dup3`: `newFd` is closed first if it is open. */
  duplicateTo(fd: number, newFd: number, closeOnExec: boolean): number {
    const file = this.get(fd);
    if (fd === newFd) throw new FsError(Errno.EINVAL);
    if (newFd >= MAX_DESCRIPTORS) throw new FsError(Errno.EBADF);
    if (this.table.has(newFd)) this.close(newFd);
    this.#assign(newFd, file, closeOnExec);
    return newFd;
  }

  /** `close`. */
  close(fd: number): void {
    const file = this.get(fd);
    this.table.delete(fd);
    this.closeOnExec.delete(fd);
    file.descriptors--;
    if (file.descriptors === 0 && file.node instanceof FileNode) {
      file.node.opens--;
      this.tree.release(file.node);
    }
  }

  #assign(fd: number, file: OpenFile, closeOnExec: boolean): void {
    if (file.descriptors === 0 && file.node instanceof FileNode) file.node.opens++;
    file.descriptors++;
    this.table.set(fd, file);
    if (closeOnExec) this.closeOnExec.add(fd);
  }

  // --- contents

  /** At most `size` bytes, from `position` or from where the description stands (which then moves). */
  read(fd: number, size: number, position?: bigint): Uint8Array {
    const file = this.get(fd);
    if ((file.flags & O_ACCMODE) === O_WRONLY) throw new FsError(Errno.EBADF);
    const { node } = file;
    if (node instanceof DirectoryNode) throw new FsError(Errno.EISDIR);
    if (node instanceof FileNode) {
      const start = startAt(file, position);
      if (start >= BigInt(node.size)) return NOTHING;
      const data = node.content(Number(start), Number(start) + size);
      if (position === undefined) file.position += BigInt(data.length);
      return data;
    }
    if (position !== undefined) throw new FsError(Errno.ESPIPE);
    const isRandom = node instanceof DeviceNode && node.name === "urandom";
    return isRandom ? this.random(Math.min(size, MAX_DEVICE_READ_BYTES)) : NOTHING;
  }

  /** Write all of `data`; the number of bytes. */
  write(fd: number, data: Uint8Array, position?: bigint): number {
    const file = this.get(fd);
    if ((file.flags & O_ACCMODE) === O_RDONLY) throw new FsError(Errno.EBADF);
    const { node } = file;
    if (node instanceof FileNode) {
      let start = startAt(file, position);
      const appends = position === undefined && (file.flags & O_APPEND) !== 0;
      if (appends && data.length > 0) start = BigInt(node.size);
      const written = this.tree.write(node, toSize(start), data);
      if (position === undefined) file.position = start + BigInt(written);
      return written;
    }
    if (position !== undefined) throw new FsError(Errno.ESPIPE);
    if (node instanceof DeviceNode && (node.name === "stdout" || node.name === "stderr")) {
      this.output(node.name === "stdout" ? 1 : 2, data);
    }
    return data.length;
  }

  /** The new position. In a directory positions are those that reading it gave; 0 starts anew. */
  seek(fd: number, offset: bigint, whence: number): bigint {
    const file = this.get(fd);
    const { node } = file;
    if (!(node instanceof FileNode || node instanceof DirectoryNode)) throw new FsError(Errno.ESPIPE);
    if (whence > SEEK_END) throw new FsError(Errno.EINVAL);
    const end = node instanceof FileNode ? BigInt(node.size) : 0n;
    const from = whence === SEEK_CUR ? file.position : whence === SEEK_END ? end : 0n;
    const position = from + offset;
    if (position < 0n) throw new FsError(Errno.EINVAL);
    if (position > MAX_OFFSET) throw new FsError(Errno.EOVERFLOW);
    if (position === 0n || position !== file.position) file.listing = undefined;
    file.position = position;
    return position;
  }

  /** `ftruncate`. */
  resize(fd: number, size: bigint): void {
    const file = this.#writableFile(fd);
    if (size < 0n) throw new FsError(Errno.EINVAL);
    this.tree.resize(file, toSize(size));
  }

  /** `fallocate` without flags: the file reaches at least to `offset + length`. */
  allocate(fd: number, offset: bigint, length: bigint): void {
    const file = this.#writableFile(fd);
    if (offset < 0n || length <= 0n) throw new FsError(Errno.EINVAL);
    if (offset + length > BigInt(file.size)) this.tree.resize(file, toSize(offset + length));
  }

  /** The next `count` entries of an open directory. Empty at the end. */
  listDirectory(fd: number, count: number): DirectoryEntry[] {
    const file = this.get(fd);
    const directory = file.node;
    if (!(directory instanceof DirectoryNode)) throw new FsError(Errno.ENOTDIR);
    const listing = file.listing ?? (file.listing = [".", "..", ...directory.entries.keys()]);
    const found: DirectoryEntry[] = [];
    while (file.position < BigInt(listing.length) && found.length < count) {
      const name = listing[Number(file.position)] ?? "";
      file.position++;
      const node = name === "." ? directory : name === ".." ? directory.parent : directory.entries.get(name);
      if (node !== undefined) found.push({ name, node, next: Number(file.position) });
    }
    if (file.position >= BigInt(listing.length)) file.listing = [];
    return found;
  }

  #writableFile(fd: number): FileNode {
    const file = this.get(fd);
    if (!(file.node instanceof FileNode) || (file.flags & O_ACCMODE) === O_RDONLY) throw new FsError(Errno.EINVAL);
    return file.node;
  }
}

/** A file size or position as a number. Above 2^53 no quota allows it anyway, so precision does not matter. */
export function toSize(value: bigint): number {
  return Number(value);
}

function startAt(file: OpenFile, position: bigint | undefined): bigint {
  if (position === undefined) return file.position;
  if (position < 0n) throw new FsError(Errno.EINVAL);
  return position;
}
