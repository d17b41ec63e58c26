"""There is no network: no socket can be made, so every other call on one finds that it is none; no name resolves."""

from __future__ import annotations

from .. import errno
from .contract import Import, constant, refusal

_EAI_FAIL = -4
"""`getaddrinfo`'s "unrecoverable error": nobody should try again."""
_CALLS = ("accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen")
_TRANSFERS = ("recvfrom", "recvmsg", "sendmsg", "sendto")

IMPORTS: dict[str, Import] = {
    "__syscall_socket": refusal(errno.ENETUNREACH, "no network; the tools are the way out"),
    **{f"__syscall_{call}": refusal(errno.ENOTSOCK, "no descriptor is a socket") for call in _CALLS + _TRANSFERS},
    "_try_fcntl64": constant(0, "benign", "asks whether a descriptor is a socket: no; answered in the shim"),
    "_try_shutdown": constant(0, "benign", "asks whether a descriptor is a socket: no; answered in the shim"),
    "getaddrinfo": constant(_EAI_FAIL, "errno", "EAI_FAIL: no resolver"),
    "getnameinfo": constant(_EAI_FAIL, "errno", "EAI_FAIL: no resolver"),
    "getprotobyname": constant(0, "errno", "null: no protocol database"),
    "_emscripten_lookup_name": constant(0, "errno", "0.0.0.0: no resolver, and no socket to use an address with"),
}
