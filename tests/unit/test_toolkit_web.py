"""The toolkit against a server on this machine that speaks HTTP, and speaks it badly."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from urllib.parse import urlsplit

import pytest
from tests.support.chat_server import ChatServer, chat_server

from cloche import ConfigError, Sandbox
from cloche.agents.toolkit import (
    AskUserTool,
    FetchRefused,
    FetchRules,
    SearchEndpoint,
    VisitWebpageTool,
    WebSearchTool,
    WikipediaSearchTool,
)
from cloche.agents.toolkit.fetching import fetch
from cloche.agents.toolkit.web_tools import read_duckduckgo

PATIENCE_S = 10.0


def answer(body: bytes, kind: str = "text/html; charset=utf-8", status: int = 200, *headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *headers,
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def moved(location: str) -> bytes:
    return answer(b"", "text/html", 302, f"Location: {location}")


def rules(server: ChatServer, **more: object) -> FetchRules:
    port = urlsplit(server.url).port
    given = {"allow": ("127.0.0.0/8",), "ports": frozenset({port}), "timeout_s": PATIENCE_S, **more}
    return FetchRules(**given)  # type: ignore[arg-type]


def address(server: ChatServer, path: str = "/") -> str:
    return f"http://127.0.0.1:{urlsplit(server.url).port}{path}"


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_a_page_is_read_as_text_with_title_and_links() -> None:
    page = "<title>Prices</title><p>Tea: <a href='/tea'>1.25 €</a>".encode()
    with chat_server(answer(page)) as server:
        text = VisitWebpageTool(rules(server))(address(server, "/list?a=ü"))
        assert text == f"# Prices\n\nTea: [1.25 €]({address(server, '/tea')})"
        assert server.requests[0].line == "GET /list?a=%C3%BC HTTP/1.1"
        assert server.requests[0].headers["host"] == urlsplit(address(server)).netloc


def test_this_machine_is_out_of_reach_by_default() -> None:
    with chat_server(answer(b"secret")) as server:
        ports = FetchRules(ports=None)
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):  # noqa: S104  # refused
            with pytest.raises(FetchRefused, match="not on the public internet"):
                fetch(f"http://{host}:{urlsplit(server.url).port}/", ports)
        assert server.connections == 0


def test_a_name_that_changes_its_answer_after_the_check_gains_nothing() -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    with chat_server(answer(b"<p>public</p>")) as server:
        url = f"http://rebind.example:{urlsplit(server.url).port}/"
        page = fetch(url, rules(server, allow=("127.0.0.0/8",), resolver=rebinding))
        assert page.body == b"<p>public</p>"
        assert asked == ["rebind.example"], (
            "one look-up per connection, and the address that was judged is connected to"
        )
        assert server.requests[0].headers["host"] == urlsplit(url).netloc
        with pytest.raises(FetchRefused, match="not on the public internet"):
            fetch(url, rules(server, resolver=rebinding))


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:10.0.0.1]/",
        "http://2130706433/",
        "file:///etc/passwd",
        "//user:pass@127.0.0.1/",
        "http://127.0.0.1:1/",
    ],
)
def test_a_redirect_to_a_private_place_is_not_followed(location: str) -> None:
    with chat_server(moved(location)) as server:
        allowed = rules(server, allow=("127.0.0.1/32",))
        with pytest.raises(FetchRefused):
            fetch(address(server), allowed)
        assert len(server.requests) == 1


def test_redirects_are_followed_a_few_times() -> None:
    with chat_server(moved("/b"), moved("c?d=1"), answer(b"there", "text/plain")) as server:
        page = fetch(address(server, "/a"), rules(server))
        assert (page.url, page.body) == (address(server, "/c?d=1"), b"there")
    with chat_server(moved("/again")) as server:
        with pytest.raises(FetchRefused, match="more than 5 redirects"):
            fetch(address(server), rules(server))
        assert len(server.requests) == 6


def test_keys_go_to_the_first_origin_only() -> None:
    with chat_server(answer(b"{}", "application/json")) as other, chat_server(moved(address(other))) as first:
        both = rules(first, ports=None)
        fetch(address(first), both, {"X-Key": "secret"})
        assert first.requests[0].headers["x-key"] == "secret"
        assert "x-key" not in other.requests[0].headers


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate"])
def test_packed_pages_are_unpacked(coding: str) -> None:
    text = b"word " * 50_000
    packer = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "raw deflate": packer.compress(text) + packer.flush(),
    }
    header = f"Content-Encoding: {coding.split()[-1]}"
    with chat_server(answer(packed[coding], "text/plain", 200, header)) as server:
        page = fetch(address(server), rules(server))
        assert page.body == text
        assert not page.cut


def test_a_bomb_costs_what_is_read_of_it() -> None:
    bomb = gzip.compress(bytes(50_000_000), 1)
    with chat_server(answer(bomb, "text/plain", 200, "Content-Encoding: gzip")) as server:
        started = time.monotonic()
        page = fetch(address(server), rules(server, max_bytes=1_000_000))
        assert len(page.body) == 1_000_000
        assert page.cut
        assert time.monotonic() - started < PATIENCE_S


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd"])
def test_a_packing_that_was_not_asked_for_is_refused(coding: str) -> None:
    packed = answer(b"x", "text/plain", 200, f"Content-Encoding: {coding}")
    with chat_server(packed) as server, pytest.raises(FetchRefused, match="packed in a way"):
        fetch(address(server), rules(server))


def test_a_body_longer_than_allowed_is_cut() -> None:
    with chat_server(answer(b"x" * 100_000, "text/plain")) as server:
        page = fetch(address(server), rules(server, max_bytes=1000))
        assert (page.body, page.cut) == (b"x" * 1000, True)


def drip(connection: socket.socket) -> None:
    """A byte at a time, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    stop = threading.Event()
    while not stop.wait(0.02):
        connection.sendall(b"x")


def silence(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("server_does", [drip, silence])
def test_a_server_that_takes_its_time_is_left(server_does: object) -> None:
    with chat_server(server_does) as server:  # type: ignore[arg-type]
        started = time.monotonic()
        with pytest.raises(FetchRefused, match="did not answer within 0.3 s"):
            fetch(address(server), rules(server, timeout_s=0.3))
        assert time.monotonic() - started < PATIENCE_S


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"", "not HTTP|failed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, "not HTTP"),
        (answer(b"%PDF", "application/pdf"), "only text can be read"),
        (answer(b"\x00", "image/png"), "only text can be read"),
        (answer(b"not packed at all", "text/plain", 200, "Content-Encoding: gzip"), "packed wrongly"),
    ],
)
def test_an_answer_of_the_wrong_kind_is_refused(raw: bytes, message: str) -> None:
    does = raw or socket.socket.close
    with chat_server(does) as server, pytest.raises(FetchRefused, match=message):
        fetch(address(server), rules(server))


def test_tls_names_the_host_of_the_address_and_not_where_it_was_found() -> None:
    greetings: list[bytes] = []

    def listen(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            greetings.append(connection.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=listen, args=(listener,))
        thread.start()
        port: int = listener.getsockname()[1]
        there = FetchRules(allow=("127.0.0.1",), ports=frozenset({port}), resolver=lambda host, port: ["127.0.0.1"])
        with pytest.raises(FetchRefused, match="the connection to shop.example failed"):
            fetch(f"https://shop.example:{port}/", there)
        thread.join(PATIENCE_S)
    assert b"shop.example" in greetings[0]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(answer(b"direct", "text/plain")) as server, chat_server(answer(b"proxy", "text/plain")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        assert fetch(address(server), rules(server)).body == b"direct"
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("Größe".encode("latin-1"), "text/plain; charset=ISO-8859-1", "Größe"),
        (b'<meta charset="windows-1252"><p>\x80 5</p>', "text/html", "€ 5"),
        (b"a\xff", "text/plain; charset=utf-8", "a\ufffd"),
        (b"+ADw-script+AD4-", "text/plain; charset=utf-7", "+ADw-script+AD4-"),
        (b"\\x41", "text/plain; charset=unicode_escape", "\\x41"),
        (b"", "text/html", "(the page has no text)"),
    ],
)
def test_text_is_decoded_by_codecs_that_are_for_text(body: bytes, kind: str, text: str) -> None:
    with chat_server(answer(body, kind)) as server:
        assert VisitWebpageTool(rules(server))(address(server)) == text


def test_an_error_page_is_an_error() -> None:
    with chat_server(answer(b"no", status=404)) as server, pytest.raises(FetchRefused, match="status 404"):
        VisitWebpageTool(rules(server))(address(server))


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow": ("here",)},
        {"schemes": frozenset({"ftp"})},
        {"timeout_s": 0},
        {"max_bytes": 0},
        {"user_agent": "a\r\nb"},
    ],
)
def test_rules_that_cannot_be_are_a_config_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        FetchRules(**wrong)  # type: ignore[arg-type]


# --- searching --------------------------------------------------------------------------------------------------------

LITE = """
<tr><td>1.</td><td><a rel="nofollow" href="//duckduckgo.com/l/?uddg=https%3A%2F%2Fexample.org%2Ftea&amp;rut=1"
 class='result-link'>All about <b>tea</b></a></td></tr>
<tr><td class='result-snippet'>Green &amp; <b>black</b></td></tr>
<tr><td>2.</td><td><a href="https://duckduckgo.com/y.js?ad_domain=x" class='result-link'>An advertisement</a></td></tr>
<tr><td>3.</td><td><a href="https://example.com/" class='result-link'>Plain</a></td></tr>
"""


def test_the_plain_page_of_results_is_read() -> None:
    assert read_duckduckgo(LITE) == [
        {"title": "All about tea", "url": "https://example.org/tea", "snippet": "Green & black"},
        {"title": "Plain", "url": "https://example.com/", "snippet": ""},
    ]


@pytest.mark.parametrize("piece", ["<a ", "<a class='result-link' ", "<td>", "<", "<a href='x' class='result-link'>"])
def test_a_page_of_nothing_but_markup_has_no_results(piece: str) -> None:
    assert read_duckduckgo(piece * (1_000_000 // len(piece))) == []


def test_web_search_asks_the_page_that_was_configured() -> None:
    with chat_server(answer(LITE.encode())) as server:
        found = WebSearchTool(address(server, "/lite/"), max_results=1, rules=rules(server))("green tea & milk")
        assert [result["url"] for result in found] == ["https://example.org/tea"]
        assert server.requests[0].line == "GET /lite/?q=green+tea+%26+milk HTTP/1.1"


def test_web_search_asks_a_service_in_json_and_keeps_its_key() -> None:
    data = {
        "web": {
            "results": [
                {"title": "T", "url": "https://example.org/", "description": "<b>D</b>"},
                {"url": "javascript:x"},
                3,
            ]
        }
    }
    with chat_server(answer(json.dumps(data).encode(), "application/json")) as server:
        endpoint = SearchEndpoint(
            url=address(server), results="web.results", snippet="description", headers={"X-Key": "s3cret"}
        )
        search = WebSearchTool(endpoint, rules=rules(server))
        assert search("tea") == [{"title": "T", "url": "https://example.org/", "snippet": "D"}]
        assert server.requests[0].headers["x-key"] == "s3cret"
        assert "s3cret" not in f"{search!r} {endpoint!r} {search.stub} {search.schema()}"


@pytest.mark.parametrize("body", [b"no json", b"[]", b'{"results": 3}', b"[" * 100_000])
def test_a_service_that_answers_otherwise_is_an_error(body: bytes) -> None:
    with chat_server(answer(body, "application/json")) as server, pytest.raises(FetchRefused):
        WebSearchTool(SearchEndpoint(url=address(server)), rules=rules(server))("tea")


@pytest.mark.parametrize(
    "wrong", [{"url": "ftp://x"}, {"url": "https://x/?a=1"}, {"url": "https://x", "headers": {"A": "b\r\nc"}}]
)
def test_an_endpoint_that_cannot_be_is_a_config_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SearchEndpoint(**wrong)  # type: ignore[arg-type]


def test_wikipedia_gives_introductions_in_the_order_of_rank() -> None:
    pages = [
        {"title": "Milk", "fullurl": "https://w/Milk", "extract": "White.", "index": 2},
        {"title": "Tea", "fullurl": "https://w/Tea", "extract": "Tea is a drink.", "index": 1},
    ]
    with chat_server(answer(json.dumps({"query": {"pages": pages}}).encode(), "application/json")) as server:
        search = WikipediaSearchTool(
            base_url=address(server), user_agent="me@example.org", max_chars=5, rules=rules(server)
        )
        assert search("tea") == [
            {"title": "Tea", "url": "https://w/Tea", "text": "Tea i"},
            {"title": "Milk", "url": "https://w/Milk", "text": "White"},
        ]
        assert server.requests[0].headers["user-agent"] == "me@example.org"
    with chat_server(answer(b'{"batchcomplete": true}', "application/json")) as server:
        assert WikipediaSearchTool(base_url=address(server), rules=rules(server))("nothing") == []


# --- asking -----------------------------------------------------------------------------------------------------------


def test_the_user_is_asked_by_the_function_of_the_host() -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "Paris"

    assert AskUserTool(ask)("Where\x1b[2J to?") == "Paris"
    assert asked == ["Where\\x1b[2J to?"]
    with pytest.raises(ConfigError, match="ask_on_terminal"):
        AskUserTool(None)  # type: ignore[arg-type]


@pytest.mark.wasmtime
def test_the_toolkit_works_from_inside_a_sandbox() -> None:
    async def ask(question: str) -> str:
        return question.upper()

    with chat_server(answer(b"<p>A page</p>")) as server:
        tools = [VisitWebpageTool(rules(server)), AskUserTool(ask)]
        with Sandbox(tools=tools, isolation="thread") as box:
            cell = box.run(f"visit_webpage({address(server)!r}), ask_user('why?')")
            assert cell.value == ("A page", "WHY?"), cell.error
            cell = box.run("visit_webpage('http://169.254.169.254/latest/')")
            assert cell.error is not None
            assert cell.error.message == "FetchRefused: port 80 is not allowed"
