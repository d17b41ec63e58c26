"""Memory in three layers: none, a conversation, and notes that tools of yours load and save.

An agent keeps nothing. A conversation keeps messages and the sandbox's variables; the notes are a file of the host's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from _models import chosen_model, code

from cloche import CodeAgent

SCRIPT = [
    code("prices = {'tea': 3.5, 'milk': 1.25}\nsave_note('currency', 'euros')\nfinal_answer('noted')"),
    code("final_answer(f\"{sum(prices.values())} {load_note('currency')}\")"),
]


def make_notes(path: Path) -> list[Callable[..., object]]:
    def read() -> dict[str, str]:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def save_note(key: str, text: str) -> None:
        """Keeps a note for later tasks."""
        notes = read()
        if len(text) > 1000 or len(notes) >= 100:
            raise ValueError("a note has at most 1000 characters, and there are at most 100")
        path.write_text(json.dumps({**notes, key: text}), encoding="utf-8")

    def load_note(key: str) -> str:
        """A note that was kept earlier."""
        return read()[key]

    return [save_note, load_note]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "notes.json")
        agent = CodeAgent(make_notes(path), chosen_model(SCRIPT))
        with agent.conversation() as talk:
            talk.run("Tea costs 3.50 and milk 1.25. Remember that I count in euros.")
            print("In the conversation:", talk.run("What do both cost together?").output)
        print("For later:", path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
