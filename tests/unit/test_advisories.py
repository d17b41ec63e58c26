"""The advisory list: what it may hold, what it says of a version, and that it grows old."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from cloche.runtime.advisories import OLD_DAYS, fits, read_list, report
from cloche.wasm_sandbox.pinned import WASMTIME

LISTED = read_list()


def test_every_entry_has_a_source_and_a_day_that_has_been() -> None:
    assert len(LISTED.advisories) > 40
    assert {advisory.component for advisory in LISTED.advisories} <= {
        "wasmtime",
        "cpython",
        "pyodide",
        "deno",
        "litellm",
    }
    for advisory in LISTED.advisories:
        assert advisory.source.startswith("https://")
        assert advisory.published <= LISTED.date
    assert len({(advisory.component, advisory.id) for advisory in LISTED.advisories}) == len(LISTED.advisories)


@pytest.mark.guarantee("G43")
def test_what_concerns_the_pinned_engine_was_judged() -> None:
    unjudged = [found.id for found in LISTED.against({"wasmtime": WASMTIME}) if found.exposure == "host"]
    assert unjudged == []


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8"])
def test_the_malicious_releases_of_litellm_are_found_as_harm_to_the_host(version: str) -> None:
    worst = LISTED.against({"litellm": version})[0]
    assert (worst.exposure, worst.affected) == ("host", ("==1.82.7", "==1.82.8"))


def test_other_releases_of_litellm_are_not_called_malicious() -> None:
    assert [found for found in LISTED.against({"litellm": "1.84.0"}) if found.exposure == "host"] == []


@pytest.mark.parametrize(
    ("version", "span", "inside"),
    [
        ("46.0.2", ">=46.0.2,<47.0.0", True),
        ("46.0.1", ">=46.0.2,<47.0.0", False),
        ("47.0.0", ">=46.0.2,<47.0.0", False),
        ("47", "==47.0.0", True),
        ("9.0.0", "<10.0.0", True),
        ("3.14.10", ">=3.14.4", True),
        ("3.14.5rc1", ">=3.14.5", True),
        ("2.0", "<=1.9", False),
        ("2.0", ">1.9", True),
    ],
)
def test_ranges_compare_numbers_and_not_text(version: str, span: str, inside: bool) -> None:
    assert fits(version, span) is inside


@pytest.mark.parametrize(
    "entry",
    [
        {"safe": [">=1"], "affected": ["==1"]},
        {},
        {"safe": ["~1"]},
        {"safe": [">=1"], "exposure": "none"},
        {"safe": [">=1"], "exposure": "some", "why": "because"},
    ],
)
def test_a_malformed_entry_is_refused(tmp_path: Path, entry: dict[str, object]) -> None:
    whole = {"id": "X", "component": "deno", "published": "2026-01-01", "title": "t", "source": "https://x", **entry}
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"date": "2026-01-01", "advisories": [whole]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"one of safe|no range|exposure is one of"):
        read_list(path)


def test_an_old_list_warns_and_a_fresh_one_only_tells_its_date() -> None:
    fresh = report(LISTED, {"deno": "2.9.8"}, today=LISTED.date)
    assert fresh[1:] == [
        f"advisory list of {LISTED.date}: {len(LISTED.advisories)} entries",
        "no entry concerns these versions",
    ]
    old = report(LISTED, {}, today=LISTED.date + datetime.timedelta(days=OLD_DAYS + 1))
    assert old[2].startswith("WARNING: the list is 31 days old")


def test_an_affected_version_is_named_with_its_source() -> None:
    lines = report(LISTED, {"litellm": "1.82.8"}, today=LISTED.date)
    assert lines[2].startswith("WARNING (host): litellm ")
    assert lines[2].endswith("https://github.com/BerriAI/litellm/issues/24518")
