"""A cell as JSON: what `--json` prints. Every field is always there, and guest text comes escaped, as JSON does it."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from typing import cast

from ..runtime.cell import Artifact, Cell
from .terminal import write_text


def cell_fields(cell: Cell | None, failure: Mapping[str, str] | None = None) -> dict[str, object]:
    """The fields of a cell, and what ended it from outside. None: it did not come to one.

    `value` is null unless it is plain JSON; `value_repr` has its text in any case. Artifacts come without their bytes.
    """
    cell = Cell(complete=False) if cell is None else cell
    fields = {field.name: getattr(cell, field.name) for field in dataclasses.fields(cell)}
    return {
        **fields,
        "ok": cell.ok,
        "value": cell.value if is_plain_json(cell.value) else None,
        "error": None if cell.error is None else cell.error.to_json(),
        "artifacts": [_artifact_fields(artifact) for artifact in cell.artifacts],
        "limits": [dataclasses.asdict(hit) for hit in cell.limits],
        "usage": dataclasses.asdict(cell.usage),
        "metadata": None if cell.metadata is None else cell.metadata.to_json(),
        "failure": failure,
    }


def write_json(fields: Mapping[str, object]) -> None:
    """One line of ASCII JSON on stdout."""
    write_text(json.dumps(fields, ensure_ascii=True, allow_nan=False) + "\n", sys.stdout)


def is_plain_json(value: object) -> bool:
    """True when JSON says all of it: no bytes, sets, tuples, dates, NaN or keys that are not text."""
    if isinstance(value, float):
        return math.isfinite(value)
    # The depth is bounded: a value of a cell came through the codec.
    if isinstance(value, list):
        return all(map(is_plain_json, cast("list[object]", value)))
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return all(isinstance(key, str) and is_plain_json(item) for key, item in items)
    return value is None or isinstance(value, (bool, int, str))


def _artifact_fields(artifact: Artifact) -> dict[str, object]:
    return {
        "name": artifact.name,
        "path": artifact.path,
        "mime": artifact.mime,
        "size_bytes": len(artifact.data),
        "sha256": artifact.sha256,
    }
