"""What the examples share: a small web, in the formats that the toolkit reads. Not an example itself."""

from __future__ import annotations

from html import escape

from _local_web import Answer, Asked

PAGES = {
    "/wiki/Nigeria": (
        "Nigeria",
        "Nigeria is a country in West Africa. Capital: Abuja. Population: 230000000 (rounded).",
    ),
    "/wiki/Abuja": ("Abuja", "Abuja is the capital of Nigeria."),
    "/news": ("AI news", "Latest headline: Small model writes its own tests"),
}


def small_web(asked: Asked) -> Answer:
    """DuckDuckGo's plain results at /lite/, MediaWiki's `api.php`, and three pages."""
    if asked.path == "/lite/":
        return "".join(_result(asked.base, path) for path in _found(asked.query.get("q", "")))
    if asked.path == "/w/api.php":
        pages: list[object] = [
            {"index": index, "title": PAGES[path][0], "fullurl": asked.base + path, "extract": PAGES[path][1]}
            for index, path in enumerate(_found(asked.query.get("gsrsearch", "")))
        ]
        return {"query": {"pages": pages}}
    if asked.path in PAGES:
        title, text = PAGES[asked.path]
        return f"<html><head><title>{title}</title></head><body><p>{escape(text)}</p></body></html>"
    return None


def _found(query: str) -> list[str]:
    words = query.lower().split()
    hits = {path: sum(word in f"{title} {text}".lower() for word in words) for path, (title, text) in PAGES.items()}
    return sorted((path for path in hits if hits[path]), key=lambda path: -hits[path])


def _result(base: str, path: str) -> str:
    title, text = PAGES[path]
    link = f'<a rel="nofollow" href="{base}{path}" class="result-link">{title}</a>'
    return f'<tr><td>{link}</td></tr><tr><td class="result-snippet">{escape(text[:60])}</td></tr>'
