/**
 * The files of a guest with Pyodide's own file system, as the relay wants them: the twin of `fs_system.ts` over MEMFS.
 *
 * The quota holds whatever Python writes. A guest that changes MEMFS from JavaScript gets round it, and then meets the
 * caps that stand outside of the process: the host takes no more bytes than it allows, and memory is the worker's.
 */

import { utf8ByteString } from "./bytes.ts";
import { Errno, type ErrnoNumber, FsError } from "./errno.ts";
import type { Output } from "./fs_descriptors.ts";
import type { QuotaLimit } from "./fs_nodes.ts";
import type { FileInfo } from "./fs_system.ts";
import { PATH_MAX } from "./fs_tree.ts";
import type { MemoryOperations, PyodideFs, PyodideNode } from "./pyodide_asm.d.ts";

const KNOWN: ReadonlySet<number> = new Set(Object.values(Errno));

/** A node and the generation at which it, or a folder above it, came to its place. */
interface Found {
  readonly path: string;
  readonly node: PyodideNode;
  readonly came: number;
}

/** All files of one sandbox. What is there when it is made belongs to the image. */
export class FfiFiles {
  /** See `OutputSource`. */
  output: Output = () => {};
  outputLeft = 0;
  readonly quota = { refused: new Map<QuotaLimit, number>() };
  /** Rises with every change; a marker for `changedUnder`. */
  generation = 0;
  #maxFiles = Infinity;
  #maxBytes = Infinity;
  readonly #own: ReadonlySet<PyodideNode>;
  readonly #ownBytes: number;
  /** What the guest may have at most: it rises with every change, and is counted anew when it reaches the limit. */
  #files = 0;
  #bytes = 0;
  readonly #placed = new WeakMap<PyodideNode, number>();
  readonly #written = new WeakMap<PyodideNode, number>();

  constructor(private readonly fs: PyodideFs) {
    const found = [...this.#under(fs.root, "")];
    this.#own = new Set(found.map(({ node }) => node));
    this.#ownBytes = found.reduce((sum, { node }) => sum + this.#size(node), 0);
    this.#watch(fs.filesystems.MEMFS.ops_table);
  }

  /** The quotas from here on. What exists stays, also above them. */
  limit(maxFiles: number, maxBytes: number): void {
    this.#maxFiles = maxFiles;
    this.#maxBytes = maxBytes;
  }

  /** Content of a plain file. Throws FsError. */
  readFile(path: string): Uint8Array {
    return this.#try(() => {
      const { node } = this.fs.lookupPath(path, { follow: true });
      if (this.fs.isDir(node.mode)) throw new FsError(Errno.EISDIR);
      if (!this.fs.isFile(node.mode)) throw new FsError(Errno.EINVAL);
      return new Uint8Array(this.fs.readFile(path));
    });
  }

  /** Make or replace a plain file, with the folders above it. The quota counts. Throws FsError. */
  writeFile(path: string, data: Uint8Array): void {
    this.#try(() => {
      const above = path.replace(/\/+[^/]*$/, "");
      if (above !== path && above !== "") this.fs.mkdirTree(above);
      const node = this.#find(path);
      if (node !== undefined && !this.fs.isFile(node.mode)) {
        throw new FsError(this.fs.isDir(node.mode) ? Errno.EISDIR : Errno.EINVAL);
      }
      if (node !== undefined && this.#own.has(node)) throw new FsError(Errno.EROFS);
      this.#checkBytes(data.length - (node === undefined ? 0 : this.#size(node)));
      this.fs.writeFile(path, data);
    });
  }

  /** Absolute paths of all plain files that are not part of the image, sorted. */
  listFiles(): string[] {
    return this.#plain(this.fs.root, "").map(({ path }) => path);
  }

  /** Plain files under `folder` that are new, moved there or changed after the marker, sorted by path. */
  changedUnder(folder: string, since: number): FileInfo[] {
    const start = this.#find(folder);
    if (start === undefined || !this.fs.isDir(start.mode)) return [];
    return this.#plain(start, folder)
      .filter(({ node, came }) => Math.max(came, this.#written.get(node) ?? 0) > since)
      .map(({ path, node }) => ({ path, size: this.#size(node) }));
  }

  /** What reached raw stdout (1) or stderr (2): as in `fs_system.ts`. */
  rawOutput(stream: 1 | 2, data: Uint8Array): number {
    const passed = data.slice(0, this.outputLeft);
    this.outputLeft -= passed.length;
    if (passed.length > 0) this.output(stream, passed);
    return data.length;
  }

  // --- walking

  /** No link is followed, and what lies deeper than a path can say is left out. */
  *#under(start: PyodideNode, prefix: string): Generator<Found> {
    const stack: [string, PyodideNode, number][] = [[prefix, start, 0]];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      const [path, folder, placed] = next;
      for (const [name, node] of Object.entries(folder.contents ?? {}) as [string, PyodideNode][]) {
        const below = `${path}/${name}`;
        if (below.length > PATH_MAX) continue;
        const came = Math.max(placed, this.#placed.get(node) ?? 0);
        if (this.fs.isDir(node.mode)) stack.push([below, node, came]);
        yield { path: below, node, came };
      }
    }
  }

  #plain(start: PyodideNode, prefix: string): Found[] {
    const found = [...this.#under(start, prefix)].filter(({ path, node }) =>
      this.fs.isFile(node.mode) && !this.#own.has(node) && path.isWellFormed()
    );
    const keys = new Map(found.map((one) => [one, utf8ByteString(one.path) ?? ""]));
    return found.sort((a, b) => compare(keys.get(a) ?? "", keys.get(b) ?? ""));
  }

  #find(path: string): PyodideNode | undefined {
    return this.fs.analyzePath(path).exists ? this.fs.lookupPath(path, { follow: true }).node : undefined;
  }

  #size(node: PyodideNode): number {
    return this.fs.isFile(node.mode) ? node.usedBytes ?? 0 : 0;
  }

  #try<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      if (error instanceof this.fs.ErrnoError && KNOWN.has(error.errno)) throw new FsError(error.errno as ErrnoNumber);
      throw error;
    }
  }

  // --- the quota

  /** Take part in every change of MEMFS: its nodes share these functions. */
  #watch({ dir, file }: MemoryOperations): void {
    const { mknod, symlink, rename } = dir.node, { setattr } = file.node, { write } = file.stream;
    dir.node.mknod = (parent, name, mode, dev) => this.#new(() => mknod(parent, name, mode, dev));
    dir.node.symlink = (parent, name, target) => this.#new(() => symlink(parent, name, target));
    dir.node.rename = (node, folder, name) => {
      rename(node, folder, name);
      this.#placed.set(node, ++this.generation);
    };
    file.node.setattr = (node, attributes) => {
      if (attributes.size !== undefined && attributes.size !== null) this.#grow(node, attributes.size);
      setattr(node, attributes);
    };
    file.stream.write = (stream, buffer, offset, length, position, canOwn) => {
      if (length > 0) this.#grow(stream.node, Math.max(this.#size(stream.node), position + length));
      return write(stream, buffer, offset, length, position, canOwn);
    };
  }

  #new(make: () => PyodideNode): PyodideNode {
    if (this.#files >= this.#maxFiles) this.#recount();
    if (this.#files >= this.#maxFiles) this.#refuse("files", this.#files + 1);
    this.#files++;
    const node = make();
    this.#placed.set(node, ++this.generation);
    return node;
  }

  #grow(node: PyodideNode, size: number): void {
    const more = size - this.#size(node);
    this.#checkBytes(more);
    this.#bytes += Math.max(more, 0);
    this.#written.set(node, ++this.generation);
  }

  #checkBytes(more: number): void {
    if (this.#bytes + more > this.#maxBytes) this.#recount();
    if (more > 0 && this.#bytes + more > this.#maxBytes) this.#refuse("file_bytes", this.#bytes + more);
  }

  #recount(): void {
    const found = [...this.#under(this.fs.root, "")];
    this.#files = found.length - this.#own.size;
    this.#bytes = found.reduce((sum, { node }) => sum + this.#size(node), 0) - this.#ownBytes;
  }

  #refuse(limit: QuotaLimit, wanted: number): never {
    this.quota.refused.set(limit, Math.max(wanted, this.quota.refused.get(limit) ?? 0));
    throw new this.fs.ErrnoError(Errno.ENOSPC);
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
