"""Which addresses a page may come from: those of the public internet, and networks that the host has named.

The rule: the address that a connection goes to is the one that is judged, after every wrapping of an IPv4 address in an
IPv6 one is taken off. What is on no list of public addresses is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from ...runtime.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT; holds a cloud's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent, at a public address
        "169.254.0.0/16",  # link-local; holds most metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; holds a cloud's metadata service
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: ends at whatever IPv4 address it holds
        "3fff::/20",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks such as "10.1.0.0/16", "127.0.0.1" or "fd00::/8".

    Raises:
        ConfigError: one is none.
    """
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"allow= names networks such as '10.1.0.0/16', not {text!r:.100}") from exc
    return tuple(found)


def may_connect(text: str, allow: tuple[Network, ...] = ()) -> bool:
    """Whether the address, as the resolver wrote it, is public or in one of the networks."""
    try:
        address = unwrapped(ipaddress.ip_address(text))
    except ValueError:  # not an address, or one with a zone
        return False
    if any(address in network for network in allow if network.version == address.version):
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None or address not in _PUBLIC_6:
        return False
    return not any(address in network for network in _NOT_PUBLIC_6)


def unwrapped(address: Address) -> Address:
    """The IPv4 address inside a mapped one (`::ffff:a.b.c.d`) or a NAT64 one (`64:ff9b::a.b.c.d`)."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
