"""A short slice of the soak, and the page's section that a long one writes."""

from __future__ import annotations

import json

import pytest

from .report import kept, section, section_of, table
from .soak import soak

SECONDS = 20.0


@pytest.mark.slow
@pytest.mark.wasmtime
@pytest.mark.security
@pytest.mark.guarantee("G15")
def test_under_attack_from_eight_tenants_no_answer_is_lost_wrong_or_given_twice() -> None:
    record = soak(SECONDS, seed=20)
    counts = record["counts"]
    assert isinstance(counts, dict)
    assert record["findings"] == [], json.dumps(record, indent=1)
    assert counts["good cells answered"] > 50
    assert counts["hostile cells ended"] > 10
    assert counts["good cells killed"] > 0, (
        "no worker with a good cell was killed, so the slice shows nothing about that"
    )


RECORD = {
    "machine": {"cores": 2},
    "seconds": 600.0,
    "tenants": 8,
    "threads": 16,
    "counts": {"good sandboxes": 5, "good cells begun": 9, "good cells answered": 8, "good cells killed": 1},
    "good cells without an end": 0,
    "share of unkilled good cells answered correctly": 1.0,
    "good cell ms": {"p50": 1, "p95": 2, "p99": 3},
    "host RSS growth MB": 0.1,
    "fork servers RSS growth MB": 0.0,
    "left after close": {"descriptors": 0, "threads": 0, "child processes": 0},
    "zombies at most": 1,
    "findings": ["something"],
}


def test_a_section_is_replaced_where_it_stood_and_the_rest_of_the_page_stays() -> None:
    page = "# Measurements\n\ntable\n"
    once = kept(page, section(RECORD))
    assert once.startswith("# Measurements\n\ntable\n")
    assert kept(once, section(RECORD)) == once
    assert section_of(once).strip() == section(RECORD).strip()
    assert section_of(page) == ""


def test_findings_stand_below_the_figures() -> None:
    assert table(RECORD).endswith("Findings:\n\n* something\n")
