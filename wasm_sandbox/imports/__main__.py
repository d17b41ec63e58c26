"""Print docs/host-imports.md: `python -m cloche.wasm_sandbox.imports > docs/host-imports.md`."""

from __future__ import annotations

import sys

from .table import markdown

sys.stdout.write(markdown())
