"""Connections that go only where they may: names are resolved here, judged, and the judged address is connected to.

The rule: nothing between the judgement and the connection asks the resolver again, so a name that changes its answer
gains nothing. Every read, write and handshake shares one deadline.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from .addresses import Network, may_connect
from .urls import FetchRefused

Resolve = Callable[[str, int], list[str]]
"""Addresses of a host, as text."""
MAX_ADDRESSES = 50
"""Of one name; more are not judged, so the name is refused."""
_TRIED = 4
_CONNECT_S = 10.0


def resolve(host: str, port: int) -> list[str]:
    """What the machine's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedBackend(httpcore.NetworkBackend):
    """For one fetch."""

    def __init__(self, allow: tuple[Network, ...], deadline: float, resolver: Resolve = resolve) -> None:
        self._allow = allow
        self._deadline = deadline
        self._resolve = resolver
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        error: Exception | None = None
        for address in self._judged(host, port)[:_TRIED]:
            allowed_s = min(_CONNECT_S, left(self._deadline))
            try:
                stream = self._inner.connect_tcp(address, port, allowed_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                error = exc
            else:
                return _TimedStream(stream, self._deadline)
        raise error or httpcore.ConnectError("no address")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise FetchRefused("sockets of this machine are not for fetching")

    def sleep(self, seconds: float) -> None:
        raise FetchRefused("nothing is tried twice here")

    def _judged(self, host: str, port: int) -> list[str]:
        """The addresses of the host, if all of them are allowed."""
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError):
            raise FetchRefused(f"the host {host} is not known") from None
        if not addresses or len(addresses) > MAX_ADDRESSES:
            raise FetchRefused(f"the host {host} is not known")
        if not all(may_connect(address, self._allow) for address in addresses):
            raise FetchRefused(f"the host {host} is not on the public internet")
        return addresses


class _TimedStream(httpcore.NetworkStream):
    """A connection that ends with the deadline, however slowly the other side talks."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, left(self._deadline))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, left(self._deadline))
        return _TimedStream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def left(deadline: float) -> float:
    """Seconds until the deadline.

    Raises:
        httpcore.ReadTimeout: it has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return seconds
