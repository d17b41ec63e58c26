/**
 * The file system of one sandbox: a tree over the image's files, a descriptor table, a working directory, quotas.
 *
 * The guest reaches it through the imports; the host reads and writes files through `readFile`, `writeFile`,
 * `listFiles` and `changedUnder`. There is no way from here to a file of the machine: contents are bytes in memory.
 */

import { decodeByteString, utf8ByteString } from "./bytes.ts";
import { Errno, FsError } from "./errno.ts";
import * as fd from "./fs_descriptors.ts";
import { type DeviceName, DeviceNode, DirectoryNode, FileNode, type FsNode, Quota } from "./fs_nodes.ts";
import { PATH_MAX, type Place, Tree } from "./fs_tree.ts";

/** -100 as the guest passes it. */
export const AT_FDCWD = 0xffffff9c;
const DEVICES: readonly DeviceName[] = ["null", "stdin", "stdout", "stderr", "urandom"];
const RAW_OUTPUT_BYTES = 64 * 1024;
const KEPT_FLAGS = fd.O_ACCMODE | fd.O_APPEND | fd.O_NONBLOCK;

/** What a file system takes from its sandbox. */
export interface FileSystemSetup {
  /** Absolute path to content, read-only, and so are their folders. */
  readonly baseFiles: ReadonlyMap<string, Uint8Array>;
  readonly maxFiles: number;
  readonly maxBytes: number;
  /** Wall clock in nanoseconds. */
  readonly clock: () => bigint;
  /** Source of `/dev/urandom`. */
  readonly random: (size: number) => Uint8Array;
}

/** A plain file that the host is told of. */
export interface FileInfo {
  readonly path: string;
  readonly size: number;
}

/** All files of one sandbox. */
export class FileSystem {
  readonly quota: Quota;
  readonly tree: Tree;
  readonly openFiles: fd.Descriptors;
  umask = 0o022;
  cwd: DirectoryNode;
  /** Takes raw output of descriptors 1 and 2, which did not go through the guest's runner. */
  output: fd.Output = () => {};
  /** Bytes of raw output that are still passed on; the owner sets it anew for each cell. The rest is dropped. */
  outputLeft = RAW_OUTPUT_BYTES;

  constructor(private readonly setup: FileSystemSetup) {
    this.quota = new Quota(setup.maxFiles, setup.maxBytes);
    this.tree = new Tree(this.quota, setup.clock);
    this.openFiles = new fd.Descriptors(this.tree, setup.random, (stream, data) => this.rawOutput(stream, data));
    const { root } = this.tree;
    this.#addFolder(root, "tmp");
    this.#addFolder(root, "out");
    this.cwd = this.#addFolder(this.#addFolder(root, "home"), "web_user");
    const dev = this.#addFolder(root, "dev", true);
    const devices = new Map(DEVICES.map((name) => [name, this.#addDevice(dev, name)]));
    this.#addFolder(root, "lib", true);
    for (const [path, content] of setup.baseFiles) this.#addBaseFile(path, content);
    for (const name of ["stdin", "stdout", "stderr"] as const) {
      const device = devices.get(name);
      if (device !== undefined) {
        this.openFiles.add(new fd.OpenFile(device, name === "stdin" ? fd.O_RDONLY : fd.O_WRONLY));
      }
    }
  }

  /** Other quotas than at creation. What exists stays, also above them. */
  limit(maxFiles: number, maxBytes: number): void {
    this.quota.maxFiles = maxFiles;
    this.quota.maxBytes = maxBytes;
  }

  // --- for the imports: paths are byte strings

  /** Where the path of an `...at` call leads. */
  find(dirfd: number, path: string, follow: boolean): Place {
    return this.tree.find(this.#at(dirfd, path), path, follow);
  }

  /** The node that an `...at` call means. With `allowEmpty`, no path means the descriptor itself. */
  node(dirfd: number, path: string, follow: boolean, allowEmpty = false): FsNode {
    if (allowEmpty && path === "") return dirfd === AT_FDCWD ? this.cwd : this.openFiles.get(dirfd).node;
    return this.tree.get(this.#at(dirfd, path), path, follow);
  }

  /** `openat`: a new descriptor. */
  open(dirfd: number, path: string, flags: number, permissions: number): number {
    const bothModes = (flags & fd.O_ACCMODE) === fd.O_ACCMODE;
    if (bothModes || (flags & fd.O_CREAT && flags & fd.O_DIRECTORY)) throw new FsError(Errno.EINVAL);
    this.openFiles.checkRoom();
    const follow = !(flags & fd.O_NOFOLLOW) && !(flags & fd.O_CREAT && flags & fd.O_EXCL);
    const place = this.find(dirfd, path, follow);
    let { node } = place;
    if (node === undefined) {
      node = this.#create(place, flags, permissions);
    } else {
      checkOpen(node, flags);
      const truncates = flags & fd.O_TRUNC && (flags & fd.O_ACCMODE) !== fd.O_RDONLY;
      if (truncates && node instanceof FileNode) this.tree.resize(node, 0);
    }
    return this.openFiles.add(new fd.OpenFile(node, flags & KEPT_FLAGS), 0, (flags & fd.O_CLOEXEC) !== 0);
  }

  /** `mkdirat`. Slashes at the end mean nothing, so that a file or link there is simply in the way. */
  makeDirectory(dirfd: number, path: string, permissions: number): DirectoryNode {
    let end = path.length;
    while (end > 1 && path[end - 1] === "/") end--;
    return this.tree.newDirectory(this.find(dirfd, path.slice(0, end), false), permissions & ~this.umask);
  }

  /** `chdir`. */
  changeDirectory(node: FsNode): void {
    if (!(node instanceof DirectoryNode)) throw new FsError(Errno.ENOTDIR);
    this.cwd = node;
  }

  /** `getcwd`. */
  workingDirectory(): string {
    if (!this.cwd.linked) throw new FsError(Errno.ENOENT);
    return this.tree.pathOf(this.cwd);
  }

  /** `truncate`. */
  resize(node: FsNode, size: bigint): void {
    if (node instanceof DirectoryNode) throw new FsError(Errno.EISDIR);
    if (!(node instanceof FileNode) || size < 0n) throw new FsError(Errno.EINVAL);
    this.tree.resize(node, fd.toSize(size));
  }

  /** Pass on what reached raw stdout (1) or stderr (2), as far as `outputLeft` goes. */
  rawOutput(stream: 1 | 2, data: Uint8Array): void {
    const passed = data.subarray(0, this.outputLeft);
    this.outputLeft -= passed.length;
    if (passed.length > 0) this.output(stream, passed);
  }

  // --- for the host: paths are text

  /** Rises with every change; a marker for `changedUnder`. */
  get generation(): number {
    return this.tree.generation;
  }

  /** Content of a plain file; links are followed, inside the sandbox. Throws FsError. */
  readFile(path: string): Uint8Array {
    const node = this.tree.get(this.cwd, encodePath(path));
    if (node instanceof DirectoryNode) throw new FsError(Errno.EISDIR);
    if (!(node instanceof FileNode)) throw new FsError(Errno.EINVAL);
    return node.content();
  }

  /** Make or replace a plain file, with the folders above it. The quota counts. Throws FsError. */
  writeFile(path: string, data: Uint8Array): void {
    const raw = encodePath(path);
    this.#makeFoldersAbove(raw);
    const place = this.tree.find(this.cwd, raw);
    const { node } = place;
    if (node !== undefined) {
      checkOpen(node, fd.O_WRONLY);
      if (!(node instanceof FileNode)) throw new FsError(Errno.EINVAL);
    }
    const replaced = node?.size ?? 0;
    this.quota.checkBytes(data.length - replaced);
    const file = node instanceof FileNode ? node : this.#create(place, fd.O_CREAT, 0o666);
    this.tree.resize(file, 0);
    this.tree.write(file, 0, data);
  }

  /** Absolute paths of all plain files that are not part of the image, sorted. */
  listFiles(): string[] {
    const paths = [...this.tree.filesUnder(this.tree.root, "")].map((found) => found.path);
    return paths.sort(compare).map(decoded);
  }

  /** Plain files under `folder` that are new, moved there or changed after the marker, sorted by path. */
  changedUnder(folder: string, since: number): FileInfo[] {
    const start = this.tree.get(this.tree.root, folder);
    if (!(start instanceof DirectoryNode)) throw new FsError(Errno.ENOTDIR);
    return [...this.tree.filesUnder(start, folder)]
      .filter(({ file, came }) => Math.max(came, file.written) > since)
      .sort((a, b) => compare(a.path, b.path))
      .map(({ path, file }) => ({ path: decoded(path), size: file.size }));
  }

  // --- helpers

  #at(dirfd: number, path: string): DirectoryNode {
    if (dirfd === AT_FDCWD || path.startsWith("/")) return this.cwd;
    const { node } = this.openFiles.get(dirfd);
    if (!(node instanceof DirectoryNode)) throw new FsError(Errno.ENOTDIR);
    return node;
  }

  #create(place: Place, flags: number, permissions: number): FileNode {
    if (!(flags & fd.O_CREAT)) throw new FsError(Errno.ENOENT);
    if (place.slash) throw new FsError(Errno.EISDIR);
    return this.tree.newFile(place, permissions & ~this.umask);
  }

  #makeFoldersAbove(path: string): void {
    if (path.length > PATH_MAX) throw new FsError(Errno.ENAMETOOLONG);
    for (let at = path.indexOf("/", 1); at > 0; at = path.indexOf("/", at + 1)) {
      const place = this.tree.find(this.cwd, path.slice(0, at));
      if (place.node === undefined) this.tree.newDirectory(place, 0o755);
    }
  }

  #addFolder(parent: DirectoryNode, name: string, sealed = false): DirectoryNode {
    const folder = new DirectoryNode({ permissions: 0o755, sealed });
    this.tree.addFixed(parent, name, folder);
    return folder;
  }

  #addDevice(folder: DirectoryNode, name: DeviceName): DeviceNode {
    const device = new DeviceNode({ permissions: 0o666 }, name);
    this.tree.addFixed(folder, name, device);
    return device;
  }

  #addBaseFile(path: string, content: Uint8Array): void {
    const names = path.split("/").filter((part) => part !== "");
    const name = names.pop() ?? "";
    let folder = this.tree.root;
    for (const part of names) {
      const below = folder.entries.get(part);
      folder = below instanceof DirectoryNode ? below : this.#addFolder(folder, part, true);
    }
    this.tree.addFixed(folder, name, new FileNode({ permissions: 0o444, sealed: true }, content));
  }
}

/** May an existing node be opened so? */
function checkOpen(node: FsNode, flags: number): void {
  if (flags & fd.O_CREAT && flags & fd.O_EXCL) throw new FsError(Errno.EEXIST);
  const writes = (flags & fd.O_ACCMODE) !== fd.O_RDONLY;
  if (node instanceof DirectoryNode) {
    if (writes || flags & fd.O_CREAT) throw new FsError(Errno.EISDIR);
    return;
  }
  if (flags & fd.O_DIRECTORY) throw new FsError(Errno.ENOTDIR);
  if (!(node instanceof FileNode || node instanceof DeviceNode)) throw new FsError(Errno.ELOOP);
  if (writes && node instanceof FileNode && node.sealed) throw new FsError(Errno.EROFS);
}

function encodePath(path: string): string {
  const raw = utf8ByteString(path);
  if (raw === undefined) throw new FsError(Errno.EILSEQ);
  return raw;
}

function decoded(path: string): string {
  return decodeByteString(path) ?? "";
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
