/** Imports that take a descriptor. Reads and writes are bounded in the number of pieces and in bytes per call. */

import { concat } from "./bytes.ts";
import { type Bound, type Box, syscall, wasi } from "./contract.ts";
import { Errno, FsError } from "./errno.ts";
import { MAX_DESCRIPTORS, O_APPEND, O_CLOEXEC, O_NONBLOCK } from "./fs_descriptors.ts";
import { MemoryFault } from "./guest_memory.ts";
import { DIRENT_BYTES, packDirent, packFdstat, writeStat, writeStatfs } from "./stat.ts";

/** Entries of one iovec array, as on Linux. */
const MAX_PIECES = 1024;
/** Bytes of one call; a longer one is answered with a short count, and every C library goes on from there. */
const MAX_IO_BYTES = 64 * 1024 * 1024;
const MAX_DIRENTS = 1024;
const F_DUPFD = 0, F_GETFD = 1, F_SETFD = 2, F_GETFL = 3, F_SETFL = 4;
const F_GETLK = 12, F_SETLK = 13, F_SETLKW = 14, F_DUPFD_CLOEXEC = 1030;
const FD_CLOEXEC = 1, F_UNLCK = 2;
const SETTABLE = O_APPEND | O_NONBLOCK;
const POLL_ALWAYS = 0x18, POLLIN_OUT = 0x5, POLLNVAL = 0x20;

type Piece = readonly [pointer: number, length: number];

/** Pointers and lengths of an iovec array, all of them inside the memory, MAX_IO_BYTES together at most. */
function pieces(box: Box, array: number, count: number): Piece[] {
  if (count > MAX_PIECES) throw new FsError(Errno.EINVAL);
  const view = new DataView(box.memory.read(array, 8 * count).buffer);
  const found: Piece[] = [];
  let left = MAX_IO_BYTES;
  for (let at = 0; at < 8 * count; at += 8) {
    const pointer = view.getUint32(at, true), length = view.getUint32(at + 4, true);
    box.memory.check(pointer, length);
    const taken = Math.min(length, left);
    left -= taken;
    if (taken > 0) found.push([pointer, taken]);
  }
  return found;
}

function read(box: Box, fd: number, array: number, count: number, result: number, position?: bigint): number {
  const targets = pieces(box, array, count);
  box.memory.setU32(result, 0); // a bad pointer has to fail before the position moves
  const wanted = targets.reduce((sum, [, length]) => sum + length, 0);
  const data = box.files.openFiles.read(fd, wanted, position);
  let done = 0;
  for (const [pointer, length] of targets) {
    const part = data.subarray(done, done + length);
    box.memory.write(pointer, part);
    done += part.length;
  }
  box.memory.setU32(result, data.length);
  return 0;
}

function write(box: Box, fd: number, array: number, count: number, result: number, position?: bigint): number {
  const sources = pieces(box, array, count);
  box.memory.setU32(result, 0);
  const parts = sources.map(([pointer, length]) => box.memory.read(pointer, length));
  const data = parts.length === 1 && parts[0] !== undefined ? parts[0] : concat(parts);
  box.memory.setU32(result, box.files.openFiles.write(fd, data, position));
  return 0;
}

function fdSeek(box: Box, fd: number, offset: bigint, whence: number, result: number): number {
  box.memory.setU64(result, 0n);
  box.memory.setU64(result, box.files.openFiles.seek(fd, offset, whence));
  return 0;
}

/** Calls that only ask whether the descriptor is open. */
function isOpen(box: Box, fd: number): number {
  box.files.openFiles.get(fd);
  return 0;
}

function fstatfs64(box: Box, fd: number, _size: number, buffer: number): number {
  box.files.openFiles.get(fd);
  return writeStatfs(box, buffer);
}

function fchmod(box: Box, fd: number, permissions: number): number {
  box.files.tree.setPermissions(box.files.openFiles.get(fd).node, permissions);
  return 0;
}

function fallocate(box: Box, fd: number, mode: number, offset: bigint, length: bigint): number {
  if (mode !== 0) throw new FsError(Errno.EOPNOTSUPP);
  box.files.openFiles.allocate(fd, offset, length);
  return 0;
}

function dup3(box: Box, fd: number, newFd: number, flags: number): number {
  if (flags & ~O_CLOEXEC) throw new FsError(Errno.EINVAL);
  return box.files.openFiles.duplicateTo(fd, newFd, flags !== 0);
}

function ioctl(box: Box, fd: number): number {
  box.files.openFiles.get(fd);
  return -Errno.ENOTTY;
}

function getdents64(box: Box, fd: number, buffer: number, size: number): number {
  if (size < DIRENT_BYTES) throw new FsError(Errno.EINVAL);
  const count = Math.min(Math.floor(size / DIRENT_BYTES), MAX_DIRENTS);
  if (buffer + count * DIRENT_BYTES > box.memory.size) throw new MemoryFault();
  const data = concat(box.files.openFiles.listDirectory(fd, count).map(packDirent));
  box.memory.write(buffer, data);
  return data.length;
}

function fcntl64(box: Box, fd: number, command: number, varargs: number): number {
  const { openFiles } = box.files;
  const file = openFiles.get(fd);
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      const lowest = box.memory.u32(varargs);
      if (lowest >= MAX_DESCRIPTORS) throw new FsError(Errno.EINVAL);
      return openFiles.add(file, lowest, command === F_DUPFD_CLOEXEC);
    }
    case F_GETFD:
      return openFiles.closeOnExec.has(fd) ? FD_CLOEXEC : 0;
    case F_SETFD:
      if (box.memory.u32(varargs) & FD_CLOEXEC) openFiles.closeOnExec.add(fd);
      else openFiles.closeOnExec.delete(fd);
      return 0;
    case F_GETFL:
      return file.flags;
    case F_SETFL:
      file.flags = (file.flags & ~SETTABLE) | (box.memory.u32(varargs) & SETTABLE);
      return 0;
    default:
      return lock(box, command, varargs);
  }
}

/** Advisory locks: nobody else could hold one. */
function lock(box: Box, command: number, varargs: number): number {
  if (command === F_GETLK) box.memory.write(box.memory.u32(varargs), new Uint8Array([F_UNLCK, 0]));
  else if (command !== F_SETLK && command !== F_SETLKW) throw new FsError(Errno.EINVAL);
  return 0;
}

function poll(box: Box, array: number, count: number, _timeoutMs: number): number {
  if (count > MAX_DESCRIPTORS) throw new FsError(Errno.EINVAL);
  box.memory.check(array, 8 * count);
  let ready = 0;
  for (let entry = array; entry < array + 8 * count; entry += 8) {
    const word = box.memory.u32(entry + 4), fd = box.memory.u32(entry);
    const state = box.files.openFiles.table.has(fd) ? POLLIN_OUT : POLLNVAL;
    const events = (fd | 0) < 0 ? 0 : state & (word | POLL_ALWAYS | POLLNVAL);
    if (events !== 0) ready++;
    box.memory.setU32(entry + 4, (word & 0xffff) | (events << 16));
  }
  return ready;
}

/** Files by descriptor. */
export const DESCRIPTOR_IMPORTS = {
  fd_read: wasi((box, fd: number, array: number, count: number, result: number) => read(box, fd, array, count, result)),
  fd_pread: wasi((box, fd: number, array: number, count: number, position: bigint, result: number) => {
    return read(box, fd, array, count, result, position);
  }),
  fd_write: wasi((box, fd: number, array: number, count: number, result: number) => {
    return write(box, fd, array, count, result);
  }),
  fd_pwrite: wasi((box, fd: number, array: number, count: number, position: bigint, result: number) => {
    return write(box, fd, array, count, result, position);
  }),
  fd_close: wasi((box, fd: number) => {
    box.files.openFiles.close(fd);
    return 0;
  }),
  fd_seek: wasi(fdSeek),
  fd_sync: wasi(isOpen),
  fd_fdstat_get: wasi((box, fd: number, buffer: number) => {
    box.memory.write(buffer, packFdstat(box.files.openFiles.get(fd).node));
    return 0;
  }),
  __syscall_fstat64: syscall((box, fd: number, buffer: number) => {
    return writeStat(box, box.files.openFiles.get(fd).node, buffer);
  }),
  __syscall_fstatfs64: syscall(fstatfs64),
  __syscall_fchdir: syscall((box, fd: number) => {
    box.files.changeDirectory(box.files.openFiles.get(fd).node);
    return 0;
  }),
  __syscall_fchmod: syscall(fchmod),
  __syscall_fchown32: syscall(isOpen),
  __syscall_ftruncate64: syscall((box, fd: number, size: bigint) => {
    box.files.openFiles.resize(fd, size);
    return 0;
  }),
  __syscall_fallocate: syscall(fallocate),
  __syscall_fadvise64: syscall(isOpen),
  __syscall_fdatasync: syscall(isOpen),
  __syscall_dup: syscall((box, fd: number) => box.files.openFiles.add(box.files.openFiles.get(fd))),
  __syscall_dup3: syscall(dup3),
  __syscall_ioctl: syscall(ioctl),
  __syscall_getdents64: syscall(getdents64),
  __syscall_fcntl64: syscall(fcntl64),
  __syscall_poll: syscall(poll),
} as const satisfies Record<string, Bound>;
