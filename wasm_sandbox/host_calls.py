"""The bridge's two imports: `host.call` takes a message of the guest, `host.fetch` hands over a long reply.

A message is bytes and a reply is bytes; what they mean is the relay's affair. -1 tells the guest that the host refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runtime.plain import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from .instance import Instance

SCRATCH_BYTES = 64 * 1024
"""Size of the shim's reply buffer; a longer reply is fetched in a second call."""
REFUSED = -1


class Refused(Exception):
    """The host does not take this message; the guest gets OSError."""


def call(instance: Instance, message: int, length: int) -> int:
    """Give the message to the instance's `host_call`; put a short reply into the shim's buffer. Its length, or -1."""
    try:
        reply = instance.host_call(instance.memory.read(message, length))
    except Refused:
        return REFUSED
    if len(reply) <= SCRATCH_BYTES:
        instance.memory.write(instance.buffer, reply)
    else:
        instance.pending_reply = reply
    return len(reply)


def fetch(instance: Instance, target: int) -> None:
    """Write the pending reply to `target`. Once: a guest that calls it again finds nothing."""
    reply, instance.pending_reply = instance.pending_reply, b""
    instance.memory.write(target, reply)


@record
class _HostCall:
    handler: Callable[..., int | None]
    fault: int


HOST_CALLS = {"call": _HostCall(call, REFUSED), "fetch": _HostCall(fetch, REFUSED)}
