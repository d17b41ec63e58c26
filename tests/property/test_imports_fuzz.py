"""Whatever a guest passes to a host import: an answer, a fault or the end of the instance, within the quotas."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.import_calls import run


@settings(max_examples=60)
@given(st.integers(0, 2**64 - 1))
@pytest.mark.guarantee("G16")
def test_any_sequence_of_import_calls_is_answered_within_the_quotas(seed: int) -> None:
    run(seed, calls=400)
