"""Structs that describe files, as the guest's C library lays them out: `stat`, `statfs`, `dirent`, WASI's `fdstat`."""

from __future__ import annotations

import struct

from ..filesystem.nodes import TYPE_DEVICE, TYPE_DIRECTORY, TYPE_SYMLINK, Directory, File, Node
from ..filesystem.tree import NAME_MAX
from .contract import Box

BLOCK_BYTES = 4096
_SECTOR_BYTES = 512
_NS = 1_000_000_000
_STAT = struct.Struct("<IIIIIIqiiqI4xqI4xqI4xQ")
_STATFS = struct.Struct("<IIqqqqqQIII")
_DIRENT = struct.Struct("<QqHB256s5x")
DIRENT_BYTES = _DIRENT.size
_DEVICE_ID = 1
_FILE_SYSTEM_TYPE = 0x01021994  # tmpfs
_DIRENT_TYPES = {TYPE_DIRECTORY: 4, TYPE_SYMLINK: 10, TYPE_DEVICE: 2}
_DIRENT_PLAIN = 8
_WASI_UNKNOWN, _WASI_DIRECTORY, _WASI_FILE = 0, 3, 4


def write_stat(box: Box, node: Node, buffer: int) -> int:
    """`struct stat`, 96 bytes. One user, one device, no hard links."""
    size = node.size
    packed = _STAT.pack(
        _DEVICE_ID,
        node.mode,
        1 if node.linked else 0,
        0,
        0,
        0,
        size,
        BLOCK_BYTES,
        min(-(-size // _SECTOR_BYTES), 0x7FFFFFFF),
        node.atime_ns // _NS,
        node.atime_ns % _NS,
        node.mtime_ns // _NS,
        node.mtime_ns % _NS,
        node.ctime_ns // _NS,
        node.ctime_ns % _NS,
        node.ino,
    )
    box.memory.write(buffer, packed)
    return 0


def write_statfs(box: Box, buffer: int) -> int:
    """The first 68 bytes of `struct statfs`: quotas as if they were a disk."""
    quota = box.files.quota
    free_blocks = max(quota.max_bytes - quota.bytes, 0) // BLOCK_BYTES
    free_files = max(quota.max_files - quota.files, 0)
    packed = _STATFS.pack(
        _FILE_SYSTEM_TYPE,
        BLOCK_BYTES,
        quota.max_bytes // BLOCK_BYTES,
        free_blocks,
        free_blocks,
        quota.max_files,
        free_files,
        _DEVICE_ID,
        NAME_MAX,
        BLOCK_BYTES,
        0,
    )
    box.memory.write(buffer, packed)
    return 0


def pack_dirent(name: bytes, node: Node, position: int) -> bytes:
    """`struct dirent`, 280 bytes; `position` is where the next one starts."""
    return _DIRENT.pack(node.ino, position, DIRENT_BYTES, _DIRENT_TYPES.get(node.type_bits, _DIRENT_PLAIN), name)


def pack_fdstat(node: Node) -> bytes:
    """WASI's `fdstat`, 24 bytes. A device is "unknown": a character device would count as a terminal."""
    kind = _WASI_FILE if isinstance(node, File) else _WASI_DIRECTORY if isinstance(node, Directory) else _WASI_UNKNOWN
    return bytes((kind,)) + bytes(23)
