"""The Python snippets of a page of the docs, for tests that run them."""

from __future__ import annotations

import re
from pathlib import Path


def snippets(page: Path, *, headings: str = "#{1,2}") -> dict[str, str]:
    """By heading (`headings`: a pattern of its marks): its blocks of Python as one text. Headings without any are left
    out."""
    parts = re.split(rf"^{headings} (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = zip(parts[::2], parts[1::2], strict=True)
    code = {heading: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for heading, text in found}
    return {heading: "\n".join(blocks) for heading, blocks in code.items() if blocks}
