"""Tools that most agents want: search the web, read a page, look into Wikipedia, ask the user.

Each is a `Tool` subclass that runs on the host; nothing of it enters a sandbox.
"""

from __future__ import annotations

from .ask_user import AskUserTool, ask_on_terminal
from .fetching import FetchRefused, FetchRules
from .web_tools import SearchEndpoint, SearchResult, VisitWebpageTool, WebSearchTool
from .wikipedia import WikipediaArticle, WikipediaSearchTool

__all__ = [
    "AskUserTool",
    "FetchRefused",
    "FetchRules",
    "SearchEndpoint",
    "SearchResult",
    "VisitWebpageTool",
    "WebSearchTool",
    "WikipediaArticle",
    "WikipediaSearchTool",
    "ask_on_terminal",
]
