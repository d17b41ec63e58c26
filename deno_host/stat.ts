/** Structs that describe files, as the guest's C library lays them out: `stat`, `statfs`, `dirent`, WASI's `fdstat`. */

import { fromByteString } from "./bytes.ts";
import type { Box } from "./contract.ts";
import { DeviceNode, DirectoryNode, FileNode, type FsNode, SymlinkNode } from "./fs_nodes.ts";
import type { DirectoryEntry } from "./fs_descriptors.ts";
import { NAME_MAX } from "./fs_tree.ts";

/** Bytes of one `dirent`. */
export const DIRENT_BYTES = 280;
const BLOCK_BYTES = 4096, SECTOR_BYTES = 512, NS = 1_000_000_000n;
const STAT_BYTES = 96, STATFS_BYTES = 68, FDSTAT_BYTES = 24;
const DEVICE_ID = 1, FILE_SYSTEM_TYPE = 0x01021994;
const MAX_I32 = 0x7fffffff;

/** `struct stat`. One user, one device, no hard links. */
export function writeStat(box: Box, node: FsNode, buffer: number): number {
  const view = new DataView(new ArrayBuffer(STAT_BYTES));
  view.setUint32(0, DEVICE_ID, true);
  view.setUint32(4, node.mode, true);
  view.setUint32(8, node.linked ? 1 : 0, true);
  view.setBigInt64(24, BigInt(node.size), true);
  view.setInt32(32, BLOCK_BYTES, true);
  view.setInt32(36, Math.min(Math.ceil(node.size / SECTOR_BYTES), MAX_I32), true);
  setTime(view, 40, node.atimeNs);
  setTime(view, 56, node.mtimeNs);
  setTime(view, 72, node.ctimeNs);
  view.setBigUint64(88, BigInt(node.ino), true);
  box.memory.write(buffer, new Uint8Array(view.buffer));
  return 0;
}

/** The first 68 bytes of `struct statfs`: quotas as if they were a disk. */
export function writeStatfs(box: Box, buffer: number): number {
  const { quota } = box.files;
  const view = new DataView(new ArrayBuffer(STATFS_BYTES));
  const freeBlocks = blocks(Math.max(quota.maxBytes - quota.bytes, 0));
  view.setUint32(0, FILE_SYSTEM_TYPE, true);
  view.setUint32(4, BLOCK_BYTES, true);
  view.setBigInt64(8, blocks(quota.maxBytes), true);
  view.setBigInt64(16, freeBlocks, true);
  view.setBigInt64(24, freeBlocks, true);
  view.setBigInt64(32, BigInt(quota.maxFiles), true);
  view.setBigInt64(40, BigInt(Math.max(quota.maxFiles - quota.files, 0)), true);
  view.setBigInt64(48, BigInt(DEVICE_ID), true);
  view.setUint32(56, NAME_MAX, true);
  view.setUint32(60, BLOCK_BYTES, true);
  box.memory.write(buffer, new Uint8Array(view.buffer));
  return 0;
}

/** One `struct dirent`. */
export function packDirent(entry: DirectoryEntry): Uint8Array {
  const packed = new Uint8Array(DIRENT_BYTES);
  const view = new DataView(packed.buffer);
  view.setBigUint64(0, BigInt(entry.node.ino), true);
  view.setBigInt64(8, BigInt(entry.next), true);
  view.setUint16(16, DIRENT_BYTES, true);
  packed[18] = direntType(entry.node);
  packed.set(fromByteString(entry.name), 19);
  return packed;
}

/** WASI's `fdstat`. A device is "unknown": a character device would count as a terminal. */
export function packFdstat(node: FsNode): Uint8Array {
  const packed = new Uint8Array(FDSTAT_BYTES);
  packed[0] = node instanceof FileNode ? 4 : node instanceof DirectoryNode ? 3 : 0;
  return packed;
}

function direntType(node: FsNode): number {
  if (node instanceof DirectoryNode) return 4;
  if (node instanceof SymlinkNode) return 10;
  return node instanceof DeviceNode ? 2 : 8;
}

function setTime(view: DataView, at: number, ns: bigint): void {
  const rest = ((ns % NS) + NS) % NS; // a time before 1970 has its nanoseconds counted upwards all the same
  view.setBigInt64(at, (ns - rest) / NS, true);
  view.setUint32(at + 8, Number(rest), true);
}

function blocks(bytes: number): bigint {
  return BigInt(Math.floor(bytes / BLOCK_BYTES));
}
