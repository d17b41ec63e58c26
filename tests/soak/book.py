"""What the soak saw: one book for all threads, small enough to be kept for hours.

The rule: each begun cell is entered once when it begins and once when it ends; the difference is what was lost.
"""

from __future__ import annotations

import random
import threading
from array import array
from collections import Counter

SAMPLES = 20_000
"""Latencies kept, a fair draw of all."""
FINDINGS = 100


class Book:
    """Counts and findings. Safe to use from any thread."""

    def __init__(self, seed: int) -> None:
        self._gate = threading.Lock()
        self._rng = random.Random(seed)  # noqa: S311  # picks samples
        self._samples = array("d")  # not one object for each: the soak's own memory has to be flat
        self._answered = 0
        self.counts: Counter[str] = Counter()
        self.ends: Counter[tuple[str, str]] = Counter()
        """(attack, end) of the hostile cells."""
        self.findings: list[str] = []

    def count(self, name: str, by: int = 1) -> None:
        with self._gate:
            self.counts[name] += by

    def attack_ended(self, attack: str, end: str) -> None:
        with self._gate:
            self.ends[attack, end] += 1

    def find(self, finding: str) -> None:
        """Something that must not be."""
        with self._gate:
            self.counts["findings"] += 1
            if len(self.findings) < FINDINGS:
                self.findings.append(finding[:500])

    def answered(self, seconds: float) -> None:
        """A good cell was answered correctly."""
        with self._gate:
            self.counts["good cells answered"] += 1
            self._answered += 1
            if len(self._samples) < SAMPLES:
                self._samples.append(seconds)
            elif (place := self._rng.randrange(self._answered)) < SAMPLES:
                self._samples[place] = seconds

    def latency_ms(self, *shares: float) -> list[float]:
        """Quantiles over the good cells; zeros before the first."""
        with self._gate:
            ordered = sorted(self._samples)
        last = len(ordered) - 1
        return [ordered[min(last, int(share * len(ordered)))] * 1e3 if ordered else 0.0 for share in shares]
