"""Error numbers as the guest's C library knows them: those of WASI, which Emscripten shares.

They differ from the host's (`ENOENT` is 44 here), so the host's `errno` module is not for answers to a guest.
"""

from __future__ import annotations

EACCES = 2
EBADF = 8
EBUSY = 10
EEXIST = 20
EFAULT = 21
EILSEQ = 25
EINVAL = 28
EISDIR = 31
ELOOP = 32
EMFILE = 33
ENAMETOOLONG = 37
ENETUNREACH = 40
ENODEV = 43
ENOENT = 44
ENOSPC = 51
ENOSYS = 52
ENOTDIR = 54
ENOTEMPTY = 55
ENOTSOCK = 57
ENOTTY = 59
EOVERFLOW = 61
EPERM = 63
ERANGE = 68
EROFS = 69
ESPIPE = 70
EOPNOTSUPP = 138

_TEXTS = {
    EACCES: "permission denied",
    EBADF: "bad file descriptor",
    EBUSY: "this folder belongs to the sandbox and stays",
    EEXIST: "file exists",
    EFAULT: "bad address",
    EILSEQ: "the name is not UTF-8",
    EINVAL: "invalid argument",
    EISDIR: "is a directory",
    ELOOP: "too many symbolic links",
    EMFILE: "too many open files",
    ENAMETOOLONG: "name too long",
    ENETUNREACH: "network is unreachable",
    ENODEV: "no such device",
    ENOENT: "no such file or directory",
    ENOSPC: "no space left: the sandbox's limit on files or file bytes is reached",
    ENOSYS: "not implemented",
    ENOTDIR: "not a directory",
    ENOTEMPTY: "directory not empty",
    ENOTSOCK: "not a socket",
    ENOTTY: "not a terminal",
    EOVERFLOW: "value too large",
    EPERM: "operation not permitted",
    ERANGE: "result does not fit",
    EROFS: "read-only: this file or folder is part of the image",
    ESPIPE: "cannot seek",
    EOPNOTSUPP: "not supported",
}


def describe(number: int) -> str:
    """Text for a host-side message."""
    return _TEXTS.get(number, f"error {number}")
