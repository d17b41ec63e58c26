"""The host imports: everything that code inside the sandbox can ask of the host, apart from the bridge.

`ALL_IMPORTS` are answered by a handler here; `IN_SHIM` inside wasm; `TRAPS`, and whatever no table names, end the
instance. docs/host-imports.md is generated from these tables (table.py) and a test keeps it so.
"""

from __future__ import annotations

from . import clocks, descriptors, heap, paths, process, sockets
from .contract import Box, Handler, Import, Kind
from .refused import IN_SHIM, TRAPS

GROUPS: dict[str, dict[str, Import]] = {
    "Files by path": paths.IMPORTS,
    "Files by descriptor": descriptors.IMPORTS,
    "Clocks and calendar": clocks.IMPORTS,
    "Process": process.IMPORTS,
    "Memory": heap.IMPORTS,
    "Network": sockets.IMPORTS,
}

ALL_IMPORTS: dict[str, Import] = {name: entry for group in GROUPS.values() for name, entry in group.items()}

__all__ = ["ALL_IMPORTS", "GROUPS", "IN_SHIM", "TRAPS", "Box", "Handler", "Import", "Kind"]
