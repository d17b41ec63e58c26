"""Runs and conversations as JSON text, without loss, and back: `RunResult.to_json`, `Conversation.to_json`.

    {"format": "cloche-run", "version": 1, "messages": [...], "run": {...}}
    {"format": "cloche-conversation", "version": 1, "messages": [...], "history": [0, 1, ...], "runs": [{...}, ...]}

`messages` holds each message once; histories are lists of places in it. The rule: a file is read as if an attacker had
written it. Size, depth and number of items are counted before anything is built, a key may stand once, every field is
checked, and nothing in a file names a class, a module or code that would be run. What a file says is still only what
it says: who may write it decides what the model will read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

from .errors import MemoryFileError
from .memory_records import dump, dump_record, load, load_record
from .memory_values import reading
from .messages import Message
from .result import ActionStep, RunResult

VERSION: Final = 1
"""Of the format. Grows with every change of it; a reader takes its own version and nothing else."""
RUN: Final = "cloche-run"
CONVERSATION: Final = "cloche-conversation"
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_DEPTH: Final = 140
MAX_ITEMS: Final = 1_000_000
"""Values of a file, keys not counted."""
MAX_RUNS: Final = 10_000

_SEPARATE: Final = frozenset({"messages", "steps"})
_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)
_BAD_NAME: Final = re.compile(r"[/\\\x00-\x1f\x7f]")
_MAX_DIGITS: Final = 20


def run_to_json(result: RunResult) -> str:
    """One run as text.

    Raises:
        MemoryFileError: its output, or another value in it, is no plain data.
    """
    pool = _Pool()
    run = _dump_run(result, pool, "run")
    return _text({"format": RUN, "version": VERSION, "messages": pool.written, "run": run})


def run_from_json(data: str | bytes, *, max_bytes: int = MAX_BYTES) -> RunResult:
    """The run of a text.

    Raises:
        MemoryFileError: the text is none of `run_to_json`'s, or is larger than allowed.
    """
    document = _document(data, RUN, {"messages", "run"}, max_bytes)
    with reading(max_bytes):
        return _load_run(document["run"], _load_pool(document), "run")


def conversation_to_json(messages: Sequence[Message], results: Sequence[RunResult]) -> str:
    """A conversation as text. Raises as `run_to_json`."""
    pool = _Pool()
    history = pool.places(messages)
    runs = [_dump_run(result, pool, f"runs[{at}]") for at, result in enumerate(results)]
    return _text(
        {"format": CONVERSATION, "version": VERSION, "messages": pool.written, "history": history, "runs": runs}
    )


def conversation_from_json(
    data: str | bytes, *, max_bytes: int = MAX_BYTES
) -> tuple[tuple[Message, ...], tuple[RunResult, ...]]:
    """Messages and results of a text. Raises as `run_from_json`."""
    document = _document(data, CONVERSATION, {"messages", "history", "runs"}, max_bytes)
    runs = document["runs"]
    if not isinstance(runs, list) or len(cast("list[object]", runs)) > MAX_RUNS:
        raise MemoryFileError(f"runs has to be a list of at most {MAX_RUNS}; the file was altered")
    with reading(max_bytes):
        pool = _load_pool(document)
        results = tuple(_load_run(run, pool, f"runs[{at}]") for at, run in enumerate(cast("list[object]", runs)))
        return _at(document["history"], pool, "history"), results


# --- runs and messages ------------------------------------------------------------------------------------------------


class _Pool:
    """Messages, each once. Two are the same when they are written the same: `1 == True`, but not in a file."""

    def __init__(self) -> None:
        self.written: list[object] = []
        self._places: dict[str, int] = {}

    def places(self, messages: Sequence[Message]) -> list[int]:
        return [self._place(message) for message in messages]

    def _place(self, message: Message) -> int:
        data = dump(Message, message, "messages")
        key = _text(data)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.written)
            self.written.append(data)
        return place


def _dump_run(result: RunResult, pool: _Pool, path: str) -> dict[str, object]:
    """`steps` are written only where `trace` does not hold them."""
    record = dump_record(RunResult, result, path, leave_out=_SEPARATE)
    apart = result.steps != _actions(result)
    record["steps"] = dump(tuple[ActionStep, ...], result.steps, f"{path}.steps") if apart else None
    record["messages"] = pool.places(result.messages)
    return record


def _load_run(data: object, pool: Sequence[Message], path: str) -> RunResult:
    if not isinstance(data, dict) or not cast("dict[str, object]", data).keys() >= _SEPARATE:
        raise MemoryFileError(f"{path}: not a run; the file was altered or cut")
    fields = dict(cast("dict[str, object]", data))
    messages = _at(fields.pop("messages"), pool, f"{path}.messages")
    written = fields.pop("steps")
    steps = () if written is None else load(tuple[ActionStep, ...], written, f"{path}.steps")
    result = cast("RunResult", load_record(RunResult, fields, path, {"messages": messages, "steps": steps}))
    if written is None:
        result = replace(result, steps=_actions(result))
    for step in result.steps:
        _check_artifacts(step, path)
    return result


def _actions(result: RunResult) -> tuple[ActionStep, ...]:
    return tuple(step for step in result.trace if isinstance(step, ActionStep))


def _check_artifacts(step: ActionStep, path: str) -> None:
    """Names of artifacts are promised to be safe to save under, also after a journey through a file."""
    for artifact in step.cell.artifacts if step.cell is not None else ():
        name = artifact.name
        if not name or name in (".", "..") or _BAD_NAME.search(name) or len(name) > 255:
            raise MemoryFileError(f"{path}: {name!r:.80} is no name of an artifact; the file was altered")
        if hashlib.sha256(artifact.data).hexdigest() != artifact.sha256:
            raise MemoryFileError(f"{path}: artifact {name!r:.80} has another sha256; the file was altered")


def _load_pool(document: dict[str, object]) -> tuple[Message, ...]:
    return cast("tuple[Message, ...]", load(tuple[Message, ...], document["messages"], "messages"))


def _at(places: object, pool: Sequence[Message], path: str) -> tuple[Message, ...]:
    chosen: list[Message] = []
    for place in cast("tuple[int, ...]", load(tuple[int, ...], places, path)):
        if not 0 <= place < len(pool):
            raise MemoryFileError(f"{path}: there is no message {place}; the file was altered or cut")
        chosen.append(pool[place])
    return tuple(chosen)


# --- text -------------------------------------------------------------------------------------------------------------


def _text(data: object) -> str:
    return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _document(data: str | bytes, name: str, fields: set[str], max_bytes: int) -> dict[str, object]:
    """The checked outermost object of a text."""
    document = _parsed(data, max_bytes)
    if not isinstance(document, dict) or cast("dict[str, object]", document).get("format") != name:
        found = cast("dict[str, object]", document).get("format") if isinstance(document, dict) else None
        raise MemoryFileError(f"this is no {name!r} but {found!r:.60}; read it with what has written it")
    document = cast("dict[str, object]", document)
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise MemoryFileError(
            f"the file has version {version!r:.20} of the format, this package reads {VERSION}: "
            "load it with the release of cloche that wrote it"
        )
    if document.keys() != {"format", "version", *fields}:
        raise MemoryFileError(f"a {name!r} has the fields {', '.join(sorted(fields))}; the file was altered or cut")
    return document


def _parsed(data: str | bytes, max_bytes: int) -> object:
    given = cast("object", data)
    if not isinstance(given, str | bytes):
        kind = type(data).__name__
        hint = "; it is read as text, so leave json.loads() out" if kind == "dict" else ""
        raise MemoryFileError(f"what to_json() gave is a str or bytes, not {kind}{hint}")
    if len(data) > max_bytes:
        raise MemoryFileError(
            f"the file has {len(data)} bytes, {max_bytes} are allowed; raise max_bytes= if it is yours"
        )
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        _count(text)
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_refused,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
        raise MemoryFileError(f"the file is no JSON ({exc!s:.120}); it was altered or cut") from None


def _count(text: str) -> None:
    """Depth and number of values, before any of them is built. Strings are skipped as wholes."""
    depth = items = 0
    for match in _TOKEN.finditer(text):
        mark = text[match.start()]
        if mark == '"':
            continue
        items += 1
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if depth > MAX_DEPTH or items > MAX_ITEMS:
            raise MemoryFileError(f"the file is deeper than {MAX_DEPTH} or has more than {MAX_ITEMS} items")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MemoryFileError("a key stands twice in one object; the file was altered")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise MemoryFileError(f"an integer has more than {_MAX_DIGITS} digits; the file was altered")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits) if len(digits) <= 40 else float("inf")
    if value in (float("inf"), float("-inf")):
        raise MemoryFileError(f"{digits:.40} is no finite number; the file was altered")
    return value


def _refused(name: str) -> float:
    raise MemoryFileError(f"{name} is no JSON; the file was altered")
