"""The limits that one cell ran into, each once, at its highest."""

from __future__ import annotations

from collections.abc import Mapping

from .cell import LimitHit
from .limits import Limits
from .output import OutputCollector


class LimitHits:
    """Collected by the thread that serves the cell; any thread may read."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._hits: dict[str, LimitHit] = {}

    def note(self, limit: str, used: float) -> None:
        """Take a hit that somebody tells of. The bound is our own record; what is not above it is no hit.

        Args:
            limit: name of a field of `Limits`, checked by the caller.
            used: what was asked for, in the unit of the limit.
        """
        allowed: float = getattr(self._limits, limit)
        if used > allowed:
            _keep_highest(self._hits, LimitHit(limit, used, allowed))

    def all(
        self, calls: Mapping[str, LimitHit], output: OutputCollector, artifacts: tuple[int, int, int]
    ) -> tuple[LimitHit, ...]:
        """These and those that others counted.

        Args:
            artifacts: how many came, their bytes, how many were left out.
        """
        found = dict(calls)
        for hit in self._hits.copy().values():
            _keep_highest(found, hit)
        if output.cut:
            found["output_bytes"] = LimitHit("output_bytes", output.total_bytes, self._limits.output_bytes)
        if artifacts[2] and not found.keys() & {"artifacts", "artifact_bytes"}:
            hit = self._left_out(*artifacts)
            found[hit.limit] = hit
        return tuple(found.values())

    def _left_out(self, count: int, size: int, dropped: int) -> LimitHit:
        """The limit behind artifacts that an engine left out without a word, as far as it can be told."""
        if count + dropped > self._limits.artifacts:
            return LimitHit("artifacts", count + dropped, self._limits.artifacts)
        return LimitHit("artifact_bytes", size, self._limits.artifact_bytes)


def _keep_highest(hits: dict[str, LimitHit], hit: LimitHit) -> None:
    known = hits.get(hit.limit)
    if known is None or known.used < hit.used:
        hits[hit.limit] = hit
