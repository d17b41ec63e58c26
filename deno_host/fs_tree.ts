/**
 * The tree of files: looking paths up, making, moving and removing nodes, changing contents.
 *
 * Rules: every walk is bounded (path length, name length, number of links); the quota is asked before anything is
 * allocated; nodes of the image are never changed. Permission bits are stored and not enforced: the guest is its own
 * root. All paths are byte strings.
 */

import { decodeByteString } from "./bytes.ts";
import { Errno, FsError } from "./errno.ts";
import { DirectoryNode, FileNode, type FsNode, type Quota, SymlinkNode } from "./fs_nodes.ts";

/** Bytes of one name, of one path without its NUL, and links followed in one lookup. */
export const NAME_MAX = 255, PATH_MAX = 4095, MAX_LINKS = 40;
/** Times of what the sandbox begins with (2026-01-01), so that equal images make equal trees. */
export const IMAGE_TIME_NS = 1_767_225_600n * 1_000_000_000n;

/** Where a path leads. `name` is empty when it ends in the root, `.` or `..`. */
export interface Place {
  readonly parent: DirectoryNode;
  readonly name: string;
  readonly node: FsNode | undefined;
  /** The path ended in a slash; only told for names that do not exist yet. */
  readonly slash: boolean;
}

/** A plain file below a directory, and the generation at which it came to its place. */
export interface Found {
  readonly path: string;
  readonly file: FileNode;
  readonly came: number;
}

/** Nodes and what may be done with them. Paths are relative to the directory given. */
export class Tree {
  /** Rises with every change; compare with `placed` and `written` of nodes. */
  generation = 0;
  readonly root = new DirectoryNode({ ino: 1, permissions: 0o755, timeNs: IMAGE_TIME_NS, fixed: true });
  #nextIno = 2;

  constructor(readonly quota: Quota, private readonly clock: () => bigint) {}

  // --- looking up

  /** Where the path leads. The last name need not exist; all before it must be directories. */
  find(start: DirectoryNode, path: string, follow = true): Place {
    const rest = components(path);
    let parent = this.#base(start, path);
    let node: FsNode = parent;
    let last = "", links = 0;
    for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
      if (name === "" || name === ".") {
        if (name === ".") last = "";
        continue;
      }
      if (!(node instanceof DirectoryNode)) throw new FsError(Errno.ENOTDIR);
      if (name === "..") {
        parent = node = node.parent;
        last = "";
        continue;
      }
      const found = child(node, name, rest);
      parent = node;
      last = name;
      if (found === undefined) return { parent, name: last, node: undefined, slash: rest.length > 0 };
      node = found;
      if (node instanceof SymlinkNode && (follow || rest.length > 0)) {
        if (++links > MAX_LINKS) throw new FsError(Errno.ELOOP);
        rest.push(...components(node.target));
        node = parent = this.#base(parent, node.target);
        last = "";
      } else if (rest.length > 0 && !(node instanceof DirectoryNode)) {
        throw new FsError(Errno.ENOTDIR);
      }
    }
    return { parent, name: last, node, slash: false };
  }

  /** The node at the path, which must exist. */
  get(start: DirectoryNode, path: string, follow = true): FsNode {
    const { node } = this.find(start, path, follow);
    if (node === undefined) throw new FsError(Errno.ENOENT);
    return node;
  }

  /** Absolute path of a directory, at most PATH_MAX bytes. */
  pathOf(directory: DirectoryNode): string {
    const names: string[] = [];
    let length = 0;
    for (let at = directory; at !== this.root; at = at.parent) {
      const name = nameInParent(at);
      length += name.length + 1;
      if (length > PATH_MAX) throw new FsError(Errno.ENAMETOOLONG);
      names.push(name);
    }
    return "/" + names.reverse().join("/");
  }

  /** Plain files of the guest below a directory. No link is followed; what lies deeper than a path can say is left out. */
  *filesUnder(start: DirectoryNode, prefix: string): Generator<Found> {
    const stack: [string, DirectoryNode, number][] = [[prefix, start, 0]];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      const [path, directory, placed] = next;
      for (const [name, node] of directory.entries) {
        const below = `${path}/${name}`;
        if (below.length > PATH_MAX) continue;
        const came = Math.max(placed, node.placed);
        if (node instanceof DirectoryNode) stack.push([below, node, came]);
        else if (node instanceof FileNode && !node.sealed) yield { path: below, file: node, came };
      }
    }
  }

  // --- making

  /** A new, empty file. */
  newFile(place: Place, permissions: number): FileNode {
    this.#checkNew(place);
    this.quota.takeFile();
    const file = new FileNode(this.#setup(permissions));
    file.written = this.#put(place, file);
    return file;
  }

  /** A new directory. */
  newDirectory(place: Place, permissions: number): DirectoryNode {
    this.#checkNew(place);
    this.quota.takeFile();
    const directory = new DirectoryNode(this.#setup(permissions), place.parent);
    this.#put(place, directory);
    return directory;
  }

  /** A new symbolic link; its target counts as file bytes. */
  newSymlink(place: Place, target: string): SymlinkNode {
    if (target === "") throw new FsError(Errno.ENOENT);
    if (target.includes("\0")) throw new FsError(Errno.EINVAL);
    if (target.length > PATH_MAX) throw new FsError(Errno.ENAMETOOLONG);
    this.#checkNew(place);
    this.quota.takeBytes(target.length);
    try {
      this.quota.takeFile();
    } catch (error) {
      this.quota.bytes -= target.length;
      throw error;
    }
    const link = new SymlinkNode(this.#setup(0o777), target);
    this.#put(place, link);
    return link;
  }

  /** Place a node of the sandbox itself, outside the quota. */
  addFixed(directory: DirectoryNode, name: string, node: FsNode): void {
    node.ino = this.#nextIno++;
    node.fixed = true;
    node.atimeNs = node.mtimeNs = node.ctimeNs = IMAGE_TIME_NS;
    if (node instanceof DirectoryNode) node.parent = directory;
    directory.entries.set(name, node);
  }

  // --- removing and moving

  /** `unlink`. */
  unlink(place: Place): void {
    if (place.node instanceof DirectoryNode) throw new FsError(Errno.EISDIR);
    this.#takeOut(place, checkRemovable(place));
  }

  /** `rmdir`. */
  removeDirectory(place: Place): void {
    if (place.name === "" && place.node !== this.root) throw new FsError(Errno.EINVAL);
    const node = checkRemovable(place);
    if (!(node instanceof DirectoryNode)) throw new FsError(Errno.ENOTDIR);
    if (node.entries.size > 0) throw new FsError(Errno.ENOTEMPTY);
    this.#takeOut(place, node);
  }

  /** Move a node; one that is in the way is replaced if the kinds allow it. */
  rename(old: Place, target: Place): void {
    const node = checkRemovable(old);
    if (target.node === node) return;
    if (node instanceof DirectoryNode && isInside(target.parent, node)) throw new FsError(Errno.EINVAL);
    if (target.node === undefined) {
      if (target.slash && !(node instanceof DirectoryNode)) throw new FsError(Errno.ENOTDIR);
      this.#checkNew(target);
    } else {
      checkReplaceable(node, target);
      this.#takeOut(target, target.node);
    }
    old.parent.entries.delete(old.name);
    this.#touch(old.parent);
    if (node instanceof DirectoryNode) node.parent = target.parent;
    this.#put(target, node);
    node.ctimeNs = this.clock();
  }

  /** Give back what a node used, once it has neither a name nor an open description. */
  release(node: FsNode): void {
    if (!node.linked && !(node instanceof FileNode && node.opens > 0)) this.quota.giveBack(node);
  }

  // --- contents and attributes

  /** Write all of `data`, filling a hole before it with zeros. ENOSPC: nothing was written. */
  write(file: FileNode, position: number, data: Uint8Array): number {
    if (data.length === 0) return 0;
    if (file.sealed) throw new FsError(Errno.EROFS);
    const end = position + data.length;
    if (end > file.size) {
      this.quota.takeBytes(end - file.size);
      file.setSize(end);
    }
    file.put(position, data);
    this.#changed(file);
    return data.length;
  }

  /** Cut the file or extend it with zeros, which count. */
  resize(file: FileNode, size: number): void {
    if (file.sealed) throw new FsError(Errno.EROFS);
    if (size > file.size) this.quota.takeBytes(size - file.size);
    else this.quota.bytes -= file.size - size;
    file.setSize(size);
    this.#changed(file);
  }

  /** `chmod`. */
  setPermissions(node: FsNode, permissions: number): void {
    if (node.sealed) throw new FsError(Errno.EROFS);
    node.permissions = permissions & 0o7777;
    node.ctimeNs = this.clock();
  }

  /** `utimensat`; undefined leaves a time as it is. */
  setTimes(node: FsNode, atimeNs: bigint | undefined, mtimeNs: bigint | undefined): void {
    if (node.sealed) throw new FsError(Errno.EROFS);
    node.atimeNs = atimeNs ?? node.atimeNs;
    node.mtimeNs = mtimeNs ?? node.mtimeNs;
    node.ctimeNs = this.clock();
  }

  /** The clock that the tree's times come from. */
  nowNs(): bigint {
    return this.clock();
  }

  // --- helpers

  #base(directory: DirectoryNode, path: string): DirectoryNode {
    return path.startsWith("/") ? this.root : directory;
  }

  #setup(permissions: number): { ino: number; permissions: number; timeNs: bigint } {
    return { ino: this.#nextIno++, permissions: permissions & 0o7777, timeNs: this.clock() };
  }

  /** May a new name be put there? */
  #checkNew(place: Place): void {
    if (place.node !== undefined) throw new FsError(Errno.EEXIST);
    if (place.parent.sealed) throw new FsError(Errno.EROFS);
    if (!place.parent.linked) throw new FsError(Errno.ENOENT);
    if (place.name.includes("\0")) throw new FsError(Errno.EINVAL);
    if (decodeByteString(place.name) === undefined) throw new FsError(Errno.EILSEQ);
  }

  #put(place: Place, node: FsNode): number {
    node.placed = ++this.generation;
    place.parent.entries.set(place.name, node);
    this.#touch(place.parent);
    return this.generation;
  }

  #takeOut(place: Place, node: FsNode): void {
    place.parent.entries.delete(place.name);
    node.linked = false;
    this.#touch(place.parent);
    this.release(node);
  }

  #touch(directory: DirectoryNode): void {
    directory.mtimeNs = directory.ctimeNs = this.clock();
  }

  #changed(file: FileNode): void {
    file.written = ++this.generation;
    file.mtimeNs = file.ctimeNs = this.clock();
  }
}

/** The names of a path, last one first. */
function components(path: string): string[] {
  if (path === "") throw new FsError(Errno.ENOENT);
  if (path.length > PATH_MAX) throw new FsError(Errno.ENAMETOOLONG);
  return path.split("/").reverse();
}

function child(directory: DirectoryNode, name: string, rest: readonly string[]): FsNode | undefined {
  if (name.length > NAME_MAX) throw new FsError(Errno.ENAMETOOLONG);
  const found = directory.entries.get(name);
  if (found === undefined && rest.some((part) => part !== "")) throw new FsError(Errno.ENOENT);
  return found;
}

function nameInParent(directory: DirectoryNode): string {
  for (const [name, node] of directory.parent.entries) if (node === directory) return name;
  throw new FsError(Errno.ENOENT);
}

function isInside(directory: DirectoryNode, ancestor: DirectoryNode): boolean {
  for (let at = directory; at !== ancestor; at = at.parent) if (at.parent === at) return false;
  return true;
}

function checkRemovable(place: Place): FsNode {
  const { node } = place;
  if (node === undefined) throw new FsError(Errno.ENOENT);
  if (node.sealed || place.parent.sealed) throw new FsError(Errno.EROFS);
  if (node.fixed || place.name === "") throw new FsError(Errno.EBUSY);
  return node;
}

function checkReplaceable(node: FsNode, place: Place): void {
  const target = checkRemovable(place);
  if (node instanceof DirectoryNode) {
    if (!(target instanceof DirectoryNode)) throw new FsError(Errno.ENOTDIR);
    if (target.entries.size > 0) throw new FsError(Errno.ENOTEMPTY);
  } else if (target instanceof DirectoryNode) {
    throw new FsError(Errno.EISDIR);
  }
}
