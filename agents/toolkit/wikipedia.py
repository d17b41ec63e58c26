"""Looks into Wikipedia: the introductions of the articles that fit best."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlencode

from typing_extensions import TypedDict

from ...runtime.errors import ConfigError
from ...runtime.tools import Tool
from .fetching import FetchRefused, FetchRules, fetch
from .web_tools import read_json


class WikipediaArticle(TypedDict):
    title: str
    url: str
    text: str


class WikipediaSearchTool(Tool):
    """The articles that fit a query best. Wikipedia asks for a `user_agent` that says who you are."""

    name = "wikipedia_search"
    description = "Searches Wikipedia and returns the best articles, each with title, url and text of its introduction."
    inputs = {"query": {"type": "string", "description": "the topic"}}
    output_type = "array"
    read_only = True

    def __init__(
        self,
        *,
        user_agent: str | None = None,
        language: str = "en",
        max_results: int = 3,
        max_chars: int = 4000,
        base_url: str | None = None,
        rules: FetchRules | None = None,
    ) -> None:
        """`max_chars` of each text; `base_url` is another MediaWiki's `api.php`."""
        super().__init__()
        if not re.fullmatch(r"[a-z][a-z-]{1,15}", language):
            raise ConfigError(f"a language is a word such as 'en', not {language!r:.50}")
        if not 1 <= max_results <= 20 or max_chars < 1:
            raise ConfigError("max_results is from 1 to 20 and max_chars at least 1")
        self._url = base_url or f"https://{language}.wikipedia.org/w/api.php"
        self._max_results, self._max_chars = max_results, max_chars
        self._headers = {"User-Agent": user_agent} if user_agent else {}
        self._rules = rules or FetchRules()
        self.timeout_s = self._rules.timeout_s + 10

    def forward(self, query: str) -> list[WikipediaArticle]:
        if not query.strip():
            raise ValueError("the query is empty")
        asked = {
            "action": "query",
            "format": "json",
            "formatversion": "2",
            "generator": "search",
            "gsrsearch": query[:300],
            "gsrlimit": str(self._max_results),
            "prop": "extracts|info",
            "inprop": "url",
            "exintro": "1",
            "explaintext": "1",
            "exlimit": "max",
        }
        page = fetch(f"{self._url}?{urlencode(asked)}", self._rules, self._headers)
        if page.status != 200:
            raise FetchRefused(f"Wikipedia answered with status {page.status}")
        return self._articles(read_json(page.body))

    def _articles(self, data: object) -> list[WikipediaArticle]:
        query = cast("Mapping[str, object]", data).get("query", {}) if isinstance(data, Mapping) else None
        pages = cast("Mapping[str, object]", query).get("pages", []) if isinstance(query, Mapping) else None
        if not isinstance(pages, list):
            raise FetchRefused("Wikipedia answered in a form that was not expected")
        found = [
            cast("Mapping[str, object]", page) for page in cast("list[object]", pages) if isinstance(page, Mapping)
        ]
        found.sort(key=_rank)
        return [
            WikipediaArticle(
                title=str(page.get("title", ""))[:300],
                url=str(page.get("fullurl", ""))[:2000],
                text=str(page.get("extract") or "")[: self._max_chars],
            )
            for page in found[: self._max_results]
        ]


def _rank(page: Mapping[str, object]) -> int:
    index = page.get("index")
    return index if isinstance(index, int) else 1_000_000
