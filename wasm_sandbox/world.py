"""The one place where nondeterminism enters a sandbox: clocks, randomness and environment.

Nothing else in the engine may read a clock or a random source on behalf of a guest: that makes a run recordable. The
state is plain data (two clock numbers, a key, a counter) and belongs to one sandbox. It reads nothing of the host's
environment.
"""

from __future__ import annotations

import hashlib
import time
from typing import Literal

Clock = Literal["live", "fixed"]

CLOCK_STEP_NS = 1_000
"""Clocks are cut to whole microseconds, and the guest is told so; a fixed clock advances by one step per read."""
FIXED_START_NS = 1_767_225_600 * 1_000_000_000
"""2026-01-01 00:00 UTC, the fixed clock's start."""
MIN_SEED_BYTES = 16
_FIXED_SEED = b"cloche: the image's own world"


def default_environ() -> dict[bytes, bytes]:
    """Environment of every sandbox: the same everywhere, nothing of the host."""
    return {
        b"HOME": b"/home/web_user",
        b"LANG": b"C.UTF-8",
        b"LOGNAME": b"web_user",
        b"PATH": b"/",
        b"PWD": b"/home/web_user",
        b"TZ": b"UTC",
        b"USER": b"web_user",
    }


class World:
    """Clocks, randomness and environment of one sandbox. Used by one thread at a time."""

    def __init__(self, seed: bytes, clock: Clock = "live", environ: dict[bytes, bytes] | None = None) -> None:
        """
        Args:
            seed: at least 16 bytes; all randomness of the sandbox follows from it.
            clock: "live" follows the host's clocks; "fixed" starts at a constant and moves with each read.
            environ: instead of `default_environ()`.

        Raises:
            ValueError: the seed is too short to be a secret.
        """
        self.clock = clock
        self.environ = default_environ() if environ is None else dict(environ)
        self.monotonic_base_ns = time.monotonic_ns()
        """Host time at which this sandbox's monotonic clock was 0; moved on resume, so that the clock continues."""
        self.fixed_ns = 0
        """Nanoseconds that a fixed clock has advanced."""
        self.reseed(seed)

    @classmethod
    def fixed(cls) -> World:
        """A world that is the same in every process, for image builds: constant seed, a clock that only reads move."""
        return cls(_FIXED_SEED, clock="fixed")

    def reseed(self, seed: bytes) -> None:
        """Start randomness anew. Everything drawn later depends on `seed` alone."""
        if len(seed) < MIN_SEED_BYTES:
            raise ValueError(f"a seed has at least {MIN_SEED_BYTES} bytes")
        self.key = hashlib.blake2b(seed, digest_size=32, person=b"cloche world").digest()
        self.draws = 0

    def time_ns(self) -> int:
        """Wall clock: nanoseconds since 1970, UTC."""
        if self.clock == "fixed":
            return FIXED_START_NS + self._step()
        return time.time_ns() // CLOCK_STEP_NS * CLOCK_STEP_NS

    def monotonic_ns(self) -> int:
        """Nanoseconds since the sandbox began; never goes back."""
        if self.clock == "fixed":
            return self._step()
        return (time.monotonic_ns() - self.monotonic_base_ns) // CLOCK_STEP_NS * CLOCK_STEP_NS

    def random(self, size: int) -> bytes:
        """`size` bytes that nobody can predict who lacks the seed. The caller bounds `size`."""
        block = hashlib.shake_256(self.key + self.draws.to_bytes(8, "little"))
        self.draws += 1
        return block.digest(size)

    def _step(self) -> int:
        self.fixed_ns += CLOCK_STEP_NS
        return self.fixed_ns
