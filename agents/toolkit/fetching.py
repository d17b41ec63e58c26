"""Fetches a page for a model: one GET by our rules on addresses, ports, redirects, sizes, types and time.

The rule: every address on the way is judged, the last one too, and nothing of the machine's own settings (proxies,
cookies, credentials) takes part. What comes back is bounded before it is looked at.
"""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpcore

from ...runtime.errors import ConfigError
from .addresses import Network, read_networks
from .guarded_network import GuardedBackend, Resolve, resolve
from .urls import FetchRefused, Url, follow, read_url

__all__ = ["FetchRefused", "FetchRules", "Fetched", "fetch"]

TEXT_TYPES = ("text/", "application/json", "application/xml", "application/xhtml+xml", "application/rss+xml")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WORK = 64 * 1024
_NONE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What a fetcher may do. Immutable; check once, use everywhere."""

    allow: tuple[str, ...] = ()
    """Networks beside the public internet, such as "10.1.0.0/16": an intranet, a server in a test."""
    schemes: frozenset[str] = frozenset({"http", "https"})
    ports: frozenset[int] | None = frozenset({80, 443})
    """None: any."""
    timeout_s: float = 20.0
    """For everything, name lookup aside."""
    max_bytes: int = 2_000_000
    """Of the body, as sent and as unpacked; the rest is cut."""
    max_redirects: int = 5
    content_types: tuple[str, ...] = TEXT_TYPES
    """Beginnings of media types that are taken; types that end in +json or +xml are too, with application/json."""
    user_agent: str = "cloche (+a tool of a language model)"
    resolver: Resolve = field(default=resolve, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """None: the usual certificates."""

    def __post_init__(self) -> None:
        read_networks(self.allow)
        if not self.schemes <= {"http", "https"} or not self.schemes:
            raise ConfigError("FetchRules: schemes are http and https")
        if not (self.timeout_s > 0 and self.max_bytes > 0 and self.max_redirects >= 0):
            raise ConfigError("FetchRules: timeout_s and max_bytes are above 0, max_redirects is 0 or more")
        if not self.user_agent.isprintable() or not self.user_agent.isascii():
            raise ConfigError("FetchRules: user_agent is printable ASCII")

    @property
    def networks(self) -> tuple[Network, ...]:
        return read_networks(self.allow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An answer. The body comes from a stranger."""

    url: str
    """After redirects."""
    status: int
    content_type: str
    charset: str | None
    body: bytes
    cut: bool
    """Whether the body was longer than `max_bytes`."""


def fetch(url: str, rules: FetchRules, headers: Mapping[str, str] | None = None) -> Fetched:
    """GET the address. Blocks for `timeout_s` at most, and for as long as the resolver takes.

    `headers` (a key of a search service) go to the first origin only.

    Raises:
        FetchRefused: the rules do not allow it, or the other side gives no usable answer.
    """
    deadline = time.monotonic() + rules.timeout_s
    ports = rules.ports
    here = first = read_url(url, schemes=rules.schemes, ports=ports)
    for _ in range(rules.max_redirects + 1):
        extra = headers if headers is not None and here.origin == first.origin else _NONE
        answer = _get(here, rules, extra, deadline)
        if isinstance(answer, Fetched):
            return answer
        here = follow(here, answer, schemes=rules.schemes, ports=ports)
    raise FetchRefused(f"more than {rules.max_redirects} redirects")


def _get(url: Url, rules: FetchRules, headers: Mapping[str, str], deadline: float) -> Fetched | str:
    """The answer, or where a redirect leads."""
    backend = GuardedBackend(rules.networks, deadline, rules.resolver)
    target = httpcore.URL(
        scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode("ascii")
    )
    try:
        with (
            httpcore.ConnectionPool(
                ssl_context=rules.tls, network_backend=backend, max_keepalive_connections=0
            ) as pool,
            pool.stream("GET", target, headers=_headers(url, rules, headers)) as response,
        ):
            return _read(url, response, rules)
    except (httpcore.TimeoutException, TimeoutError):
        raise FetchRefused(f"{url.host} did not answer within {rules.timeout_s:g} s") from None
    except (httpcore.NetworkError, OSError):
        raise FetchRefused(f"the connection to {url.host} failed") from None
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
        raise FetchRefused(f"{url.host} gave an answer that is not HTTP") from None


def _headers(url: Url, rules: FetchRules, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    given = {
        "Host": url.host_header,
        "User-Agent": rules.user_agent,
        "Accept": "text/html, text/plain, application/json;q=0.9, */*;q=0.1",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "close",
        **headers,
    }
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in given.items()]


def _read(url: Url, response: httpcore.Response, rules: FetchRules) -> Fetched | str:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        headers.setdefault(raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip())
    if response.status in _REDIRECTS and "location" in headers:
        return _utf8(headers["location"])
    content_type, _, parameters = headers.get("content-type", "text/plain").partition(";")
    content_type = content_type.strip().lower()
    if not _is_taken(content_type, rules.content_types):
        raise FetchRefused(f"{url.host} has sent {content_type[:60]!r}, and only text can be read")
    body, cut = _body(response, headers.get("content-encoding", "identity").lower(), rules.max_bytes)
    return Fetched(
        url=str(url),
        status=response.status,
        content_type=content_type,
        charset=_charset(parameters),
        body=body,
        cut=cut,
    )


def _utf8(text: str) -> str:
    """A header's text; servers send raw UTF-8 in `Location`."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _is_taken(content_type: str, taken: tuple[str, ...]) -> bool:
    if content_type.endswith(("+json", "+xml")) and "application/json" in taken:
        return True
    return content_type.startswith(taken)


def _charset(parameters: str) -> str | None:
    for part in parameters.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'").lower()[:40]
    return None


# --- bodies -----------------------------------------------------------------------------------------------------------


def _body(response: httpcore.Response, coding: str, max_bytes: int) -> tuple[bytes, bool]:
    """The unpacked body, and whether it was cut. Reads no more than is needed for that."""
    pieces: list[bytes] = []
    size = 0
    for piece in _unpacked(_sent(response, max_bytes), coding):
        pieces.append(piece[: max_bytes - size])
        size += len(piece)
        if size > max_bytes:
            return b"".join(pieces), True
    return b"".join(pieces), False


def _sent(response: httpcore.Response, max_bytes: int) -> Iterator[bytes]:
    size = 0
    for chunk in response.iter_stream():
        size += len(chunk)
        yield chunk
        if size > max_bytes:
            return


def _unpacked(chunks: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """Pieces of at most `_WORK` bytes, made one at a time: a bomb costs what is read of it."""
    if coding in ("identity", ""):
        yield from chunks
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise FetchRefused(f"the answer is packed in a way that was not asked for: {coding[:40]!r}")
    packer = zlib.decompressobj(zlib.MAX_WBITS | (16 if coding.endswith("gzip") else 0))
    first = True
    for chunk in chunks:
        if first and chunk and coding == "deflate" and chunk[0] & 0x0F != 8:
            packer = zlib.decompressobj(-zlib.MAX_WBITS)  # raw, as some servers send it
        first = first and not chunk
        data = chunk
        while data and not packer.eof:
            try:
                piece = packer.decompress(data, _WORK)
            except zlib.error:
                raise FetchRefused("the answer is packed wrongly") from None
            data = packer.unconsumed_tail
            yield piece
        if packer.eof:
            return
    yield packer.flush()  # what is left in the window; its input was used up above
