"""Landlock: this process and its children may open no file, use no port and reach no process outside.

The rule: every right that this kernel knows is handled and none is given, but for files that are named to be read or
run. What is open already goes on working.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from .syscalls import syscall

_VERSION_QUERY = 1
_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_FOLDER = 1, 4, 8
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""ABI -> number of rights on files from it on: the bits are given out in order."""
_NETWORK_RIGHTS = {4: 2}
"""bind and connect over TCP."""
_SCOPES = {6: 2}
"""Abstract Unix sockets and signals of processes outside."""


def abi() -> int:
    """Version of Landlock in this kernel.

    Raises:
        OSError: ENOSYS or EOPNOTSUPP: it has none, or it is off.
    """
    return syscall("landlock_create_ruleset", None, 0, _VERSION_QUERY)


def ruleset(version: int) -> bytes:
    """`struct landlock_ruleset_attr` with every right that `version` knows, as long as that version expects it."""
    files, network, scopes = (_bits(table, version) for table in (_FILE_RIGHTS, _NETWORK_RIGHTS, _SCOPES))
    words = [files] + ([network] if version >= 4 else []) + ([scopes] if version >= 6 else [])
    return struct.pack(f"<{len(words)}Q", *words)


def allow_nothing() -> str:
    """Confine the calling thread, and all processes that it makes, for good. Returns a few words on how far.

    `no_new_privs` must be set.

    Raises:
        OSError: no Landlock here.
    """
    return allow_only((), ())


def allow_only(readable: Iterable[str], programs: Iterable[str]) -> str:
    """As `allow_nothing`, but what lies at or below `readable` can be read, and `programs` can be started as well.

    Raises:
        OSError: no Landlock here, or a path is missing.
    """
    version = abi()
    attributes = ruleset(version)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    descriptor = syscall("landlock_create_ruleset", ctypes.c_void_p(ctypes.addressof(buffer)), len(attributes), 0)
    try:
        for path in readable:
            _allow(descriptor, path, _READ_FILE | (_READ_FOLDER if os.path.isdir(path) else 0))
        for path in programs:
            _allow(descriptor, path, _READ_FILE | _EXECUTE)
        syscall("landlock_restrict_self", descriptor, 0)
    finally:
        os.close(descriptor)
    return f"ABI {version}{'' if version >= 6 else ', files only' if version < 4 else ', files and ports'}"


def _allow(ruleset_descriptor: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, place), 12)
        address = ctypes.c_void_p(ctypes.addressof(rule))
        syscall("landlock_add_rule", ruleset_descriptor, _PATH_BENEATH, address, 0)
    finally:
        os.close(place)


def _bits(table: dict[int, int], version: int) -> int:
    known = [count for since, count in table.items() if since <= version]
    return (1 << max(known, default=0)) - 1
