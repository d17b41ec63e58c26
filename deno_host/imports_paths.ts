/** Imports that take a path. Each one only decodes arguments; what happens is in the file system. */

import { fromByteString } from "./bytes.ts";
import { type Bound, type Box, syscall } from "./contract.ts";
import { Errno, FsError } from "./errno.ts";
import { SymlinkNode, TYPE_FILE } from "./fs_nodes.ts";
import { AT_FDCWD } from "./fs_system.ts";
import { PATH_MAX } from "./fs_tree.ts";
import { MemoryFault } from "./guest_memory.ts";
import { writeStat, writeStatfs } from "./stat.ts";

const AT_SYMLINK_NOFOLLOW = 0x100, AT_REMOVEDIR = 0x200, AT_EMPTY_PATH = 0x1000;
const TYPE_MASK = 0o170000;
const R_OK = 4, W_OK = 2, X_OK = 1;
const UTIME_NOW = 0x3fffffff, UTIME_OMIT = 0x3ffffffe;
const SCAN_BYTES = 1 << 20;

/** The C string of a path; a null pointer reads as empty, as it does in Emscripten. */
function pathAt(box: Box, pointer: number): string {
  if (pointer === 0) return "";
  try {
    return box.memory.cstr(pointer, PATH_MAX);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    box.memory.cstr(pointer, SCAN_BYTES); // throws again where it is no string
    throw new FsError(Errno.ENAMETOOLONG);
  }
}

function follows(flags: number): boolean {
  return (flags & AT_SYMLINK_NOFOLLOW) === 0;
}

function allowsEmpty(flags: number): boolean {
  return (flags & AT_EMPTY_PATH) !== 0;
}

function openat(box: Box, dirfd: number, path: number, flags: number, varargs: number): number {
  const permissions = varargs === 0 ? 0 : box.memory.u32(varargs);
  return box.files.open(dirfd, pathAt(box, path), flags, permissions);
}

function faccessat(box: Box, dirfd: number, path: number, wanted: number, flags: number): number {
  if (wanted & ~(R_OK | W_OK | X_OK)) throw new FsError(Errno.EINVAL);
  const node = box.files.node(dirfd, pathAt(box, path), follows(flags));
  if (wanted & W_OK && node.sealed) throw new FsError(Errno.EROFS);
  if (wanted & X_OK && !(node.permissions & 0o111)) throw new FsError(Errno.EACCES);
  return 0;
}

function chdir(box: Box, path: number): number {
  box.files.changeDirectory(box.files.node(AT_FDCWD, pathAt(box, path), true));
  return 0;
}

function getcwd(box: Box, buffer: number, size: number): number {
  if (size === 0) throw new FsError(Errno.EINVAL);
  const text = fromByteString(box.files.workingDirectory() + "\0");
  if (size < text.length) throw new FsError(Errno.ERANGE);
  box.memory.write(buffer, text);
  return text.length;
}

function fchmodat2(box: Box, dirfd: number, path: number, permissions: number, flags: number): number {
  box.files.tree.setPermissions(box.files.node(dirfd, pathAt(box, path), follows(flags)), permissions);
  return 0;
}

function fchownat(box: Box, dirfd: number, path: number, _owner: number, _group: number, flags: number): number {
  box.files.node(dirfd, pathAt(box, path), follows(flags), allowsEmpty(flags));
  return 0;
}

function newfstatat(box: Box, dirfd: number, path: number, buffer: number, flags: number): number {
  const node = box.files.node(dirfd, pathAt(box, path), follows(flags), allowsEmpty(flags));
  return writeStat(box, node, buffer);
}

function statfs64(box: Box, path: number, _size: number, buffer: number): number {
  box.files.node(AT_FDCWD, pathAt(box, path), true);
  return writeStatfs(box, buffer);
}

function mkdirat(box: Box, dirfd: number, path: number, permissions: number): number {
  box.files.makeDirectory(dirfd, pathAt(box, path), permissions);
  return 0;
}

function mknodat(box: Box, dirfd: number, path: number, mode: number, _device: number): number {
  const type = mode & TYPE_MASK;
  if (type !== 0 && type !== TYPE_FILE) throw new FsError(Errno.EPERM);
  const place = box.files.find(dirfd, pathAt(box, path), false);
  if (place.slash) throw new FsError(Errno.ENOENT);
  box.files.tree.newFile(place, mode & ~box.files.umask);
  return 0;
}

function symlinkat(box: Box, target: number, dirfd: number, path: number): number {
  const text = pathAt(box, target);
  const place = box.files.find(dirfd, pathAt(box, path), false);
  if (place.slash) throw new FsError(Errno.ENOENT);
  box.files.tree.newSymlink(place, text);
  return 0;
}

function readlinkat(box: Box, dirfd: number, path: number, buffer: number, size: number): number {
  if (size === 0) throw new FsError(Errno.EINVAL);
  const node = box.files.node(dirfd, pathAt(box, path), false);
  if (!(node instanceof SymlinkNode)) throw new FsError(Errno.EINVAL);
  const text = fromByteString(node.target.slice(0, size));
  box.memory.write(buffer, text);
  return text.length;
}

function unlinkat(box: Box, dirfd: number, path: number, flags: number): number {
  if (flags & ~AT_REMOVEDIR) throw new FsError(Errno.EINVAL);
  const place = box.files.find(dirfd, pathAt(box, path), false);
  if (flags & AT_REMOVEDIR) box.files.tree.removeDirectory(place);
  else box.files.tree.unlink(place);
  return 0;
}

function renameat(box: Box, oldDirfd: number, oldPath: number, newDirfd: number, newPath: number): number {
  const old = box.files.find(oldDirfd, pathAt(box, oldPath), false);
  box.files.tree.rename(old, box.files.find(newDirfd, pathAt(box, newPath), false));
  return 0;
}

function truncate64(box: Box, path: number, size: bigint): number {
  box.files.resize(box.files.node(AT_FDCWD, pathAt(box, path), true), size);
  return 0;
}

function utimensat(box: Box, dirfd: number, path: number, times: number, flags: number): number {
  const node = box.files.node(dirfd, pathAt(box, path), follows(flags), true);
  const now = box.files.tree.nowNs();
  const atime = timeAt(box, times, now);
  const mtime = times === 0 ? now : timeAt(box, times + 16, now);
  box.files.tree.setTimes(node, atime, mtime);
  return 0;
}

/** A `struct timespec` in nanoseconds, `nowNs` where it says so, undefined where the time is to stay. */
function timeAt(box: Box, pointer: number, nowNs: bigint): bigint | undefined {
  if (pointer === 0) return nowNs;
  const seconds = box.memory.i64(pointer), nanoseconds = box.memory.u32(pointer + 8);
  if (nanoseconds === UTIME_NOW) return nowNs;
  if (nanoseconds === UTIME_OMIT) return undefined;
  if (nanoseconds >= 1_000_000_000) throw new FsError(Errno.EINVAL);
  return seconds * 1_000_000_000n + BigInt(nanoseconds);
}

function umask(box: Box, mask: number): number {
  const old = box.files.umask;
  box.files.umask = mask & 0o777;
  return old;
}

/** Files by path. */
export const PATH_IMPORTS = {
  __syscall_openat: syscall(openat),
  __syscall_faccessat: syscall(faccessat),
  __syscall_chdir: syscall(chdir),
  __syscall_getcwd: syscall(getcwd),
  __syscall_chmod: syscall((box, path: number, permissions: number) => fchmodat2(box, AT_FDCWD, path, permissions, 0)),
  __syscall_fchmodat2: syscall(fchmodat2),
  __syscall_fchownat: syscall(fchownat),
  __syscall_stat64: syscall((box, path: number, buffer: number) => newfstatat(box, AT_FDCWD, path, buffer, 0)),
  __syscall_lstat64: syscall((box, path: number, buffer: number) => {
    return newfstatat(box, AT_FDCWD, path, buffer, AT_SYMLINK_NOFOLLOW);
  }),
  __syscall_newfstatat: syscall(newfstatat),
  __syscall_statfs64: syscall(statfs64),
  __syscall_mkdirat: syscall(mkdirat),
  __syscall_mknodat: syscall(mknodat),
  __syscall_symlinkat: syscall(symlinkat),
  __syscall_readlinkat: syscall(readlinkat),
  __syscall_unlinkat: syscall(unlinkat),
  __syscall_rmdir: syscall((box, path: number) => unlinkat(box, AT_FDCWD, path, AT_REMOVEDIR)),
  __syscall_renameat: syscall(renameat),
  __syscall_truncate64: syscall(truncate64),
  __syscall_utimensat: syscall(utimensat),
  __syscall_umask_js: syscall(umask),
} as const satisfies Record<string, Bound>;
