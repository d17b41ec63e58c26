"""Reads an address (URL) that a model or a redirect gave, strictly: what two parsers could read in two ways is refused.

The rule: nothing here connects. What passes is one scheme, one host name in ASCII, one port, one request target.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

import idna

from ...runtime.tools import ToolError

MAX_URL = 2000
_PORTS = {"http": 80, "https": 443}
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\]|\s")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NETLOC = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:[0-9]{0,5})?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_TARGET_SAFE = "/%:@!$&'()*+,;=~-._?[]"


class FetchRefused(ToolError):
    """An address or an answer that the fetcher does not take. The message is for the model."""


@dataclass(frozen=True, slots=True)
class Url:
    """An address that may be asked for, if where it leads is allowed."""

    scheme: str
    host: str
    """Lower case, ASCII, without brackets."""
    port: int
    target: str
    """Path and query, as the request line has them."""

    @property
    def host_header(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.target}"


def read_url(text: str, *, schemes: Collection[str], ports: Collection[int] | None) -> Url:
    """The parts of an absolute address.

    Raises:
        FetchRefused: it is none, or not one of these schemes and ports.
    """
    if len(text) > MAX_URL:
        raise FetchRefused(f"the address is longer than {MAX_URL} characters")
    if _FORBIDDEN.search(text):
        raise FetchRefused("the address has a space, a control character or a backslash in it")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise FetchRefused("the address cannot be read") from None
    if parts.scheme.lower() not in schemes:
        raise FetchRefused(f"the address has to start with {' or '.join(f'{name}://' for name in sorted(schemes))}")
    if "@" in parts.netloc:
        raise FetchRefused("the address has a user name in it")
    if not host or not _NETLOC.fullmatch(parts.netloc):
        raise FetchRefused("the address has no host name")
    scheme = parts.scheme.lower()
    port = _PORTS[scheme] if port is None else port
    if ports is not None and port not in ports:
        raise FetchRefused(f"port {port} is not allowed")
    path = quote(parts.path or "/", safe=_TARGET_SAFE)
    query = f"?{quote(parts.query, safe=_TARGET_SAFE)}" if parts.query else ""
    return Url(scheme, _host(host), port, path + query)


def follow(url: Url, location: str, *, schemes: Collection[str], ports: Collection[int] | None) -> Url:
    """Where a redirect leads, checked like an address from outside.

    Raises:
        FetchRefused: not there; also from https to http.
    """
    if _FORBIDDEN.search(location):
        raise FetchRefused("a redirect leads to an address with a space or control character in it")
    try:
        joined = urljoin(str(url), location)
    except ValueError:
        raise FetchRefused("a redirect leads to an address that cannot be read") from None
    found = read_url(joined, schemes=schemes, ports=ports)
    if url.scheme == "https" and found.scheme != "https":
        raise FetchRefused("a redirect leads from https to http")
    return found


def _host(host: str) -> str:
    """The host in the one spelling that goes to the resolver, the Host header and TLS."""
    if ":" in host:
        return _ip6(host)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise FetchRefused("the host name cannot be read") from None
    host = host.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # the resolver reads these as addresses, in more spellings than one
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise FetchRefused("a numeric host has to be written as a.b.c.d") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise FetchRefused("the host name cannot be read")
    return host


def _ip6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise FetchRefused("the host name cannot be read") from None
    if address.scope_id is not None:
        raise FetchRefused("an address with a zone is not a public one")
    return str(address)
