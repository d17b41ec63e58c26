"""What runs under Deno, and what comes through it: the pinned `npm:` inputs of the image."""

from __future__ import annotations

from pathlib import Path

HOST_DIR = Path(__file__).resolve().parent
"""Resolved, because Deno compares real paths and the package is reached through a link in a checkout."""
