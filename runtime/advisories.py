"""Published security advisories against the versions in use here. The list is `advisories.json`, kept by hand.

The rule: an advisory is listed with its source, or not at all; what it means here is our own judgement and stands in
`exposure` and `why`. A list that is old says so, because nobody looked since then.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from .errors import ImageError

LIST = Path(__file__).with_name("advisories.json")
OLD_DAYS = 30
"""After this many days somebody has to look again."""
Exposure = Literal["none", "guest", "worker", "host"]
EXPOSURES: tuple[Exposure, ...] = ("none", "guest", "worker", "host")
_TESTS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_RANGE = re.compile(r"(>=|<=|==|<|>)(\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True)
class Advisory:
    """One entry of the list."""

    id: str
    component: str
    published: datetime.date
    title: str
    source: str
    """URL of the advisory."""
    safe: tuple[str, ...] = ()
    """Ranges of versions that it does not concern, such as ">=46.0.2,<47.0.0"; any of them is enough."""
    affected: tuple[str, ...] = ()
    """Instead of `safe`: the only versions that it concerns."""
    exposure: Exposure = "host"
    """What an affected version means here: nothing; harm inside the guest; to the process it is in; to the host. An
    entry that does not say is taken for the worst."""
    why: str = ""
    """Why it is no worse than that."""

    def concerns(self, version: str) -> bool:
        """Whether this version is affected."""
        if self.affected:
            return any(fits(version, span) for span in self.affected)
        return not any(fits(version, span) for span in self.safe)


@dataclass(frozen=True, slots=True)
class AdvisoryList:
    date: datetime.date
    """The day on which somebody last looked for new ones."""
    advisories: tuple[Advisory, ...]

    def age_days(self, today: datetime.date | None = None) -> int:
        return ((today or datetime.datetime.now(tz=datetime.UTC).date()) - self.date).days

    def against(self, versions: Mapping[str, str]) -> list[Advisory]:
        """The entries that concern one of these versions (component to version), the worst first."""
        found = [
            advisory
            for advisory in self.advisories
            if advisory.component in versions and advisory.concerns(versions[advisory.component])
        ]
        return sorted(found, key=lambda advisory: -EXPOSURES.index(advisory.exposure))


def read_list(path: Path = LIST) -> AdvisoryList:
    """The list in the repository.

    Raises:
        ValueError: an entry is malformed.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    return AdvisoryList(datetime.date.fromisoformat(data["date"]), tuple(map(_advisory, data["advisories"])))


def _advisory(entry: dict[str, object]) -> Advisory:
    fields = dict(entry)
    if ("safe" in fields) == ("affected" in fields):
        raise ValueError(f"{fields.get('id')}: one of safe and affected")
    fields["published"] = datetime.date.fromisoformat(str(fields["published"]))
    for name in ("safe", "affected"):
        fields[name] = tuple(cast("list[str]", fields.get(name, [])))
        for span in cast("tuple[str, ...]", fields[name]):
            _bounds(span)
    if fields.get("exposure", "host") not in EXPOSURES or ("exposure" in fields and not fields.get("why")):
        raise ValueError(f"{fields['id']}: exposure is one of {', '.join(EXPOSURES)}, with a reason")
    return Advisory(**fields)  # type: ignore[arg-type]  # a wrong name or a missing one is a TypeError of ours


# --- versions ---------------------------------------------------------------------------------------------------------


def fits(version: str, span: str) -> bool:
    """Whether a version lies in a range such as ">=46.0.2,<47.0.0". Suffixes such as "rc1" are not looked at."""
    number = _number(version)
    return all(_TESTS[test](number, bound) for test, bound in _bounds(span))


def _bounds(span: str) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    for part in span.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"{span!r} is no range of versions")
        found.append((match[1], _number(match[2])))
    return found


def _number(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(part) for part in match[0].split(".")] if match else []
    while parts and parts[-1] == 0:  # 47 and 47.0.0 are one version
        parts.pop()
    return tuple(parts)


# --- what is in use ---------------------------------------------------------------------------------------------------


def versions_in_use() -> dict[str, str]:
    """Component to version: installed packages, and what the image in use was made of. What is absent is left out."""
    found: dict[str, str] = {}
    for name in ("wasmtime", "deno", "litellm"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | _image_versions()


def _image_versions() -> dict[str, str]:
    from ..wasm_sandbox.image.load import load_image
    from ..wasm_sandbox.image.store import find_image

    try:
        manifest = load_image(find_image()).manifest
    except ImageError:
        return {}
    return {"pyodide": manifest.pyodide, "cpython": manifest.python}


def report(listed: AdvisoryList, versions: Mapping[str, str], today: datetime.date | None = None) -> list[str]:
    """Lines for people: what was looked at, the date of the list, a warning if it is old, what concerns us."""
    lines = [f"versions in use: {', '.join(f'{name} {version}' for name, version in versions.items())}"]
    lines.append(f"advisory list of {listed.date}: {len(listed.advisories)} entries")
    age = listed.age_days(today)
    if age > OLD_DAYS:
        lines.append(f"WARNING: the list is {age} days old; look for new advisories and set its date")
    found = listed.against(versions)
    lines += _lines(found)
    if not found:
        lines.append("no entry concerns these versions")
    return lines


def _lines(found: Iterable[Advisory]) -> list[str]:
    words = {
        "none": "note (not reachable)",
        "guest": "note (inside the guest)",
        "worker": "WARNING (worker)",
        "host": "WARNING (host)",
    }
    return [
        f"{words[advisory.exposure]}: {advisory.component} {advisory.id}: {advisory.title}"
        + (f" [{advisory.why}]" if advisory.why else "")
        + f" {advisory.source}"
        for advisory in found
    ]
