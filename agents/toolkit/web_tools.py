"""The tools that search the web and read a page.

The rule: an endpoint is the host's choice, an address is the model's; both go through the same fetcher and its rules.
A search key stays here: it is in no result, message, `repr` or prompt.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, urlencode, urlsplit

from typing_extensions import TypedDict

from ...runtime.errors import ConfigError
from ...runtime.tools import Tool
from .fetching import Fetched, FetchRefused, FetchRules, fetch
from .html_text import html_to_text, unescape

_CHARSETS = re.compile(
    r"utf-?8|us-ascii|ascii|iso-?8859-\d{1,2}|latin-?1|windows-125\d|cp125\d|koi8-[ru]|utf-?16(le|be)?"
    r"|gb2312|gbk|gb18030|big5|shift_?jis|euc-(jp|kr)"
)
"""Codecs of Python that stand for text and take linear time."""
_META = re.compile(rb"charset\s{0,5}=\s{0,5}[\"']?\s{0,5}([a-zA-Z0-9_-]{2,20})")
_CUT = "\n\n[the page goes on; this is its beginning]"


def decoded(page: Fetched) -> str:
    """The body as text, in the charset that the header or the page itself names, else UTF-8."""
    meta = _META.search(page.body[:2048])
    for name in (page.charset, meta[1].decode("ascii").lower() if meta else None):
        if name and _CHARSETS.fullmatch(name):
            try:
                return page.body.decode(codecs.lookup(name).name, errors="replace")
            except LookupError:
                continue
    return page.body.decode("utf-8", errors="replace")


def _checked(page: Fetched) -> Fetched:
    if page.status != 200:
        raise FetchRefused(f"the server answered with status {page.status}")
    return page


class VisitWebpageTool(Tool):
    """Reads a page as text. By default from the public internet only; `rules` opens more, or less."""

    name = "visit_webpage"
    description = "Reads the web page at an address and returns its text, in the manner of Markdown."
    inputs = {"url": {"type": "string", "description": "the full address, beginning with https:// or http://"}}
    output_type = "string"
    read_only = True

    def __init__(self, rules: FetchRules | None = None, *, max_chars: int = 40_000) -> None:
        """`max_chars` of the text are returned."""
        super().__init__()
        if max_chars < 100:
            raise ConfigError("max_chars is at least 100")
        self._rules = rules or FetchRules()
        self._max_chars = max_chars
        self.timeout_s = self._rules.timeout_s + 10  # the resolver has no time of its own

    def forward(self, url: str) -> str:
        page = _checked(fetch(url.strip(), self._rules))
        text, cut = decoded(page), page.cut
        if "html" in page.content_type:
            read = html_to_text(text, page.url, self._max_chars)
            text, cut = read.text, cut or read.cut
            if read.title and not text.startswith(f"# {read.title}"):
                text = f"# {read.title}\n\n{text}"
        elif len(text) > self._max_chars:
            text, cut = text[: self._max_chars], True
        return f"{text}{_CUT if cut else ''}" if text.strip() else "(the page has no text)"


class SearchResult(TypedDict):
    title: str
    url: str
    snippet: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEndpoint:
    """A search service that answers in JSON.

    For example: `SearchEndpoint(url="https://api.search.brave.com/res/v1/web/search", results="web.results",
    snippet="description", headers={"X-Subscription-Token": key})`, or a SearXNG of your own with
    `parameters={"format": "json"}, results="results", snippet="content"`.
    """

    url: str
    query: str = "q"
    """Name of the parameter for the words."""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Keys; they go to this service only, and never after a redirect to another."""
    results: str = "results"
    """Where the list is, as keys with dots."""
    title: str = "title"
    link: str = "url"
    snippet: str = "snippet"

    def __post_init__(self) -> None:
        if urlsplit(self.url).query or not self.url.startswith(("http://", "https://")):
            raise ConfigError("SearchEndpoint: url is an http(s) address without a query; use parameters=")
        for name, value in self.headers.items():
            if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not value.isprintable() or not value.isascii():
                raise ConfigError(f"SearchEndpoint: the header {name[:40]!r} cannot be sent")


DUCKDUCKGO = "https://lite.duckduckgo.com/lite/"


class WebSearchTool(Tool):
    """Searches the web: DuckDuckGo's plain page, or any service that answers in JSON."""

    name = "web_search"
    description = "Searches the web and returns the best results, each with title, url and snippet."
    inputs = {"query": {"type": "string", "description": "what to search for"}}
    output_type = "array"
    read_only = True

    def __init__(
        self,
        endpoint: SearchEndpoint | str = DUCKDUCKGO,
        *,
        max_results: int = 10,
        rules: FetchRules | None = None,
    ) -> None:
        """`endpoint` as text is the address of a page like DuckDuckGo's."""
        super().__init__()
        if not 1 <= max_results <= 100:
            raise ConfigError("max_results is from 1 to 100")
        self._endpoint = endpoint
        self._max_results = max_results
        self._rules = rules or FetchRules()
        self.timeout_s = self._rules.timeout_s + 10

    def forward(self, query: str) -> list[SearchResult]:
        if not query.strip():
            raise ValueError("the query is empty")
        endpoint = self._endpoint
        if isinstance(endpoint, str):
            page = _checked(fetch(f"{endpoint}?{urlencode({'q': query[:500]})}", self._rules))
            return read_duckduckgo(decoded(page))[: self._max_results]
        parameters = urlencode({**endpoint.parameters, endpoint.query: query[:500]})
        page = _checked(fetch(f"{endpoint.url}?{parameters}", self._rules, endpoint.headers))
        return read_json_results(page.body, endpoint)[: self._max_results]


def read_json_results(body: bytes, endpoint: SearchEndpoint) -> list[SearchResult]:
    """The results in a JSON answer; entries without an address are left out.

    Raises:
        FetchRefused: the answer has another form.
    """
    found = read_json(body)
    for key in endpoint.results.split("."):
        found = cast("Mapping[str, object]", found).get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, list):
        raise FetchRefused("the search service answered in a form that was not expected")
    results: list[SearchResult] = []
    for entry in cast("list[object]", found):
        if isinstance(entry, Mapping):
            fields = cast("Mapping[str, object]", entry)
            url = str(fields.get(endpoint.link) or "")
            if url.startswith(("http://", "https://")):
                title, snippet = (_plain(str(fields.get(key) or "")) for key in (endpoint.title, endpoint.snippet))
                results.append(SearchResult(title=title[:300], url=url[:2000], snippet=snippet[:1000]))
    return results


def read_json(body: bytes) -> Any:
    """The data in a JSON answer.

    Raises:
        FetchRefused: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise FetchRefused("the service did not answer in JSON") from None


_HREF = re.compile(r"\bhref=(?:\"([^\"]*)\"|'([^']*)')")
_MAX_TAG = 4000


def read_duckduckgo(page: str) -> list[SearchResult]:
    """The results on the plain page; advertisements are left out."""
    results: list[SearchResult] = []
    wanted = False
    for tag, text in _marked(page):
        if "result-link" in tag:
            url = _target(tag)
            wanted = bool(url)
            if wanted:
                results.append(SearchResult(title=_plain(text)[:300], url=url[:2000], snippet=""))
        elif wanted:
            results[-1]["snippet"] = _plain(text)[:1000]
    return results


def _marked(page: str) -> Iterator[tuple[str, str]]:
    """Tags of the two classes that stand for a result, each with the text after it. One pass over any page."""
    stop = -1
    for start in re.finditer(r"<(a|td)\s", page):
        if stop < start.end():  # else the `>` that was found before is still the next one
            stop = page.find(">", start.end())
        if stop < 0:
            return
        tag = page[start.start() : min(stop, start.start() + _MAX_TAG)]
        if "result-link" in tag or "result-snippet" in tag:
            yield tag, page[stop + 1 : stop + 1 + _MAX_TAG].partition(f"</{start[1]}>")[0]


def _target(tag: str) -> str:
    """Where a result leads: the page wraps it into an address of its own."""
    href = _HREF.search(tag)
    url = unescape(href[1] or href[2] or "") if href else ""
    try:
        parts = urlsplit(f"https:{url}" if url.startswith("//") else url)
        host = parts.hostname or ""
    except ValueError:
        return ""
    if host == "duckduckgo.com" or host.endswith(".duckduckgo.com"):
        url = next(iter(parse_qs(parts.query).get("uddg", [])), "") if parts.path == "/l/" else ""
    return url if url.startswith(("http://", "https://")) else ""


def _plain(html: str) -> str:
    """Words without tags."""
    return " ".join(unescape(re.sub(r"<[^<>]{0,300}>", "", html)).split())
