"""The wall around fetching: which addresses may be connected to, and which spellings of a URL are read at all."""

from __future__ import annotations

import time

import pytest

from cloche import ConfigError
from cloche.agents.toolkit.addresses import may_connect, read_networks
from cloche.agents.toolkit.guarded_network import GuardedBackend
from cloche.agents.toolkit.urls import FetchRefused, Url, follow, read_url

WEB = {"schemes": frozenset({"http", "https"}), "ports": frozenset({80, 443})}


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
)
def test_a_public_address_may_be_connected_to(address: str) -> None:
    assert may_connect(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104  # an address that is refused
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "100::1",
        "not an address",
        "2606:4700::1111%1",
    ],
)
def test_every_other_address_is_refused(address: str) -> None:
    assert not may_connect(address)


def test_named_networks_are_allowed_also_when_they_come_wrapped() -> None:
    allow = read_networks(["10.1.0.0/16", "fd00::/8"])

    allowed = [
        address
        for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::5", "10.2.0.1", "::1")
        if may_connect(address, allow)
    ]
    assert allowed == ["10.1.2.3", "::ffff:10.1.2.3", "fd00::5"]


def test_what_is_no_network_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="allow= names networks"):
        read_networks(["localhost"])


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://Example.ORG/a?b=1#c", "example.org"),
        ("http://example.org.:80/", "example.org"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("http://[2606:4700::1111]/", "2606:4700::1111"),
        ("http://１２７.0.0.1/", "127.0.0.1"),
        ("http://127。0。0。1/", "127.0.0.1"),
    ],
)
def test_a_host_has_one_spelling(text: str, host: str) -> None:
    assert read_url(text, **WEB).host == host  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "gopher://example.org/",
        "ftp://example.org/",
        "//example.org/",
        "example.org",
        "http:///x",
        "http://user@example.org/",
        "http://example.org:80@127.0.0.1/",
        "http://example.org\\@127.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "http://example.org/\r\nX-Injected: 1",
        "http://example.org/\tx",
        "http://exa mple.org/",
        "http://example.org/a\u2028b",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1.1/",
        "http://127.0.0.0x1/",
        "http://256.1.1.1/",
        "http://[fe80::1%25eth0]/",
        "http://[::1/",
        "http://[::1]x/",
        "http://example.org%00.evil/",
        "http://-example.org/",
        "http://exam_ple..org/",
        "http://example.org:22/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://example.org:-80/",
        "http://" + "a" * 2000,
        "http://" + "a." * 200 + "org/",
    ],
)
def test_a_url_that_two_parsers_could_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(FetchRefused):
        read_url(text, **WEB)  # type: ignore[arg-type]


def test_a_path_is_encoded_and_cannot_leave_its_line() -> None:
    url = read_url("https://example.org/ü/<b>?q=ä\"'", **WEB)  # type: ignore[arg-type]

    assert url == Url("https", "example.org", 443, "/%C3%BC/%3Cb%3E?q=%C3%A4%22'")


@pytest.mark.parametrize(
    "location",
    [
        "http://example.org/",
        "file:///etc/passwd",
        "//user@x.org/",
        "https://x.org:8443/",
        "/a\r\nb",
        "https://0x7f.1/",
        "",
    ],
)
def test_a_redirect_obeys_the_same_rules_and_never_leaves_https(location: str) -> None:
    start = read_url("https://example.org/start", **WEB)  # type: ignore[arg-type]
    if location == "":  # to itself: the cap on redirects ends that
        assert follow(start, location, **WEB) == start  # type: ignore[arg-type]
        return
    with pytest.raises(FetchRefused):
        follow(start, location, **WEB)  # type: ignore[arg-type]


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], [], ["1.1.1.1"] * 51, ["::ffff:7f00:1"]])
def test_a_name_is_refused_when_any_of_its_addresses_is(answers: list[str]) -> None:
    backend = GuardedBackend((), time.monotonic() + 5, lambda host, port: answers)

    with pytest.raises(FetchRefused, match="the host name.example is not"):
        backend.connect_tcp("name.example", 80)


def test_nothing_of_this_machine_is_reached_over_a_socket_file() -> None:
    with pytest.raises(FetchRefused):
        GuardedBackend((), time.monotonic() + 5).connect_unix_socket("/var/run/docker.sock")
