"""HTML as text that a model can read: headings, lists, links, tables and code in the manner of Markdown.

The rule: one pass from left to right, no look back, so that the time is linear in the size of the page whatever stands
in it. A page is a stranger's: nothing of it is executed, loaded or trusted to be well formed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape as _unescape
from urllib.parse import urljoin, urlsplit

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]{0,40}")
_TAG_PART = re.compile(r"[>\"']")
_ATTRIBUTE = re.compile(r"([a-zA-Z_:-]{1,60})\s{0,20}=\s{0,20}(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_SPACE = re.compile(r"\s+")
_SKIPPED = frozenset(
    {"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "textarea", "select"}
)
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "dd", "div", "dl", "dt", "fieldset", "figure", "footer",
        "form", "header", "hr", "main", "nav", "ol", "p", "section", "table", "tbody", "thead", "ul", "figcaption",
    }
)  # fmt: skip
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
MAX_ATTRIBUTES = 4000
"""Characters of a tag that are searched for attributes."""
MAX_ALL_ATTRIBUTES = 200_000
"""The same, of a whole page."""
MAX_LINK = 500
MAX_LINKS = 3000
MAX_MARKUP = 50_000
"""Tags of a page that are looked at: a page of nothing else costs a second of CPU, not a minute."""


_LONG_REFERENCE = re.compile(r"&#(?:\d{8}\d*|[xX][0-9a-fA-F]{8}[0-9a-fA-F]*);?")


def unescape(text: str) -> str:
    """`html.unescape`, which raises for a numeric reference of thousands of digits; those are no character."""
    return _unescape(_LONG_REFERENCE.sub("\ufffd", text))


@dataclass(frozen=True, slots=True)
class PageText:
    title: str
    text: str
    cut: bool
    """Whether the page goes on after the text."""


def html_to_text(page: str, base_url: str, max_chars: int = 40_000) -> PageText:
    """The beginning of a page as text. Links are absolute, and only those to the web are shown."""
    reader = _Reader(base_url, max_chars)
    reader.read(page)
    text = reader.text()
    title = _SPACE.sub(" ", "".join(reader.title)).strip()[:300]
    return PageText(title, text[:max_chars], reader.cut or len(text) > max_chars)


class _Reader:
    """Writes text while it walks over the tags."""

    def __init__(self, base_url: str, max_chars: int) -> None:
        self.title: list[str] = []
        self.cut = False
        self._base = base_url
        self._room = 2 * max_chars
        self._out: list[str] = []
        self._line_empty = True
        self._break = 0
        """Line ends that are due before the next text."""
        self._space = False
        self._in_title = False
        self._pre = 0
        self._lists = 0
        self._links: list[str] = []
        self._resolved = 0
        self._attributes_left = MAX_ALL_ATTRIBUTES

    def read(self, page: str) -> None:
        place, end, count = 0, len(page), 0
        while place < end:
            count += 1
            if count > MAX_MARKUP or self._room < 0:
                self.cut = True
                return
            start = page.find("<", place)
            if start < 0:
                start = end
            if start > place:
                self._text(page[place:start])
            place = self._markup(page, start) if start < end else end

    def text(self) -> str:
        return re.sub(r"\n{3,}", "\n\n", "".join(self._out)).strip()

    # --- markup -------------------------------------------------------------------------------------------------------

    def _markup(self, page: str, start: int) -> int:
        """Take what begins with `<` here; where it ends."""
        if page.startswith("<!--", start):
            stop = page.find("-->", start + 4)
            return len(page) if stop < 0 else stop + 3
        closing = page.startswith("/", start + 1)
        name = _NAME.match(page, start + 2 if closing else start + 1)
        if name is None:
            if page.startswith(("!", "?", "/"), start + 1):
                stop = page.find(">", start)
                return len(page) if stop < 0 else stop + 1
            self._text("<")
            return start + 1
        stop = _tag_end(page, name.end())
        if stop < 0:
            return len(page)  # a tag without end: as browsers do, nothing of it counts
        tag = name[0].lower()
        if tag in _SKIPPED and not closing and page[stop - 2] != "/":
            return _after_element(page, tag, stop)
        if closing:
            self._close(tag)
        else:
            self._open(tag, page[name.end() : min(stop - 1, name.end() + MAX_ATTRIBUTES)])
        return stop

    def _open(self, tag: str, attributes: str) -> None:
        if tag == "title":
            self._in_title = True
        elif tag in _HEADINGS:
            self._new_lines(2)
            self._put(_HEADINGS[tag] + " ")
        elif tag == "li":
            self._new_lines(1)
            self._put("  " * max(0, min(self._lists, 8) - 1) + "- ")
        elif tag in ("br", "tr"):
            self._new_lines(1)
        elif tag in ("td", "th"):
            self._cell()
        elif tag == "pre":
            self._new_lines(2)
            self._put("```\n")
            self._pre += 1
        elif tag in ("a", "img"):
            self._open_reference(tag, attributes)
        elif tag in _BLOCKS:
            self._lists += tag in ("ul", "ol")
            self._new_lines(1 if tag in ("ul", "ol") and self._lists > 1 else 2)

    def _open_reference(self, tag: str, attributes: str) -> None:
        attributes = attributes[: max(0, self._attributes_left)]
        self._attributes_left -= len(attributes)
        wanted = "href" if tag == "a" else "alt"
        value = next((found for name, found in _attributes(attributes) if name == wanted), "")
        if tag == "a":
            link = self._absolute(value)
            self._links.append(link)
            if link:
                self._put("[")
        elif value.strip():
            self._text(f" [image: {value.strip()[:200]}] ")

    def _close(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag == "a" and self._links:
            link = self._links.pop()
            if link:
                self._space = False
                self._put(f"]({link})")
        elif tag == "pre" and self._pre:
            self._pre -= 1
            self._put("\n```")
            self._new_lines(2)
        elif tag in _HEADINGS or tag in _BLOCKS:
            if tag in ("ul", "ol"):
                self._lists = max(0, self._lists - 1)
            self._new_lines(2 if self._lists == 0 else 1)

    def _cell(self) -> None:
        if not self._line_empty and self._break == 0:
            self._space = False
            self._put(" | ")

    def _absolute(self, value: str) -> str:
        value = value.strip()
        if not value or value.startswith("#") or len(value) > MAX_LINK or self._resolved >= MAX_LINKS:
            return ""
        self._resolved += 1
        try:
            link = urljoin(self._base, value)
            scheme = urlsplit(link).scheme
        except ValueError:
            return ""
        return re.sub(r"[\s()<>\x00-\x1f]", "", link) if scheme in ("http", "https") else ""

    # --- text ---------------------------------------------------------------------------------------------------------

    def _text(self, raw: str) -> None:
        text = unescape(raw)
        if self._in_title:
            self.title.append(text[:300])
        elif self._pre:
            self._put(text)
        else:
            words = _SPACE.sub(" ", text)
            self._space |= words.startswith(" ")
            if words.strip():
                self._put(words.strip())
                self._space = words.endswith(" ")

    def _put(self, text: str) -> None:
        if self._break:
            if self._out:
                self._out.append("\n" * self._break)
            self._break, self._line_empty, self._space = 0, True, False
        if self._space and not self._line_empty:
            self._out.append(" ")
        self._space = False
        self._out.append(text)
        self._room -= len(text)
        self._line_empty = text.endswith("\n")

    def _new_lines(self, count: int) -> None:
        self._break = max(self._break, count)
        self._space = False


def _tag_end(page: str, place: int) -> int:
    """The place after the `>` that ends a tag, quotes heeded; -1 when there is none."""
    while (found := _TAG_PART.search(page, place)) is not None:
        if found[0] == ">":
            return found.end()
        closed = page.find(found[0], found.end())
        if closed < 0:
            return -1
        place = closed + 1
    return -1


def _after_element(page: str, tag: str, place: int) -> int:
    """The place after the closing tag of an element whose content is not text."""
    closing = re.compile(rf"</{tag}[\s/>]", re.IGNORECASE).search(page, place)
    if closing is None:
        return len(page)
    stop = page.find(">", closing.start())
    return len(page) if stop < 0 else stop + 1


def _attributes(text: str) -> list[tuple[str, str]]:
    found = _ATTRIBUTE.findall(text)
    return [(name.lower(), unescape(double or single or bare)) for name, double, single, bare in found]
