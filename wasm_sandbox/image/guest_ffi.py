"""Runs inside the full Pyodide when a worker with `js_ffi` starts: makes `_host` and installs the runner.

The same guest as everywhere; only its bridge differs. `_cloche_bridge` is JavaScript of ours (deno_host/ffi_guest.ts).
"""

import asyncio
import gc
import sys
import time
from importlib import import_module
from types import ModuleType
from typing import Any


def _open() -> None:
    bridge: Any = import_module("_cloche_bridge")
    to_js: Any = import_module("pyodide.ffi").to_js
    webloop: Any = import_module("pyodide.webloop")
    ask, running_loop = bridge.call, asyncio._get_running_loop
    host: Any = ModuleType("_host")
    entry: Any = None

    def call(message: bytes) -> bytes:
        reply = ask(to_js(message))
        if reply is None:
            raise OSError("the host refused this call")
        return reply.to_bytes()  # type: ignore[no-any-return]

    def enter(message: Any) -> Any:
        try:
            data = message.to_bytes()
        except MemoryError:
            return None
        return to_js(entry(data))

    # Pyodide has made its own loop the running one; the guest has its own, which waits in the host.
    asyncio._set_running_loop(None)
    asyncio.run, time.sleep = webloop._orig_run, webloop._orig_sleep
    host.call = call
    sys.modules["_host"] = host
    # What an image is baked after, a worker has no time for.
    import_module("_cloche.entry").rehearse_for_image = lambda _make: None  # type: ignore[attr-defined]
    import_module("_cloche").install()
    entry = host.entry
    guest = entry.__self__
    guest.interrupts.protect(call)

    def print_(stream: str, text: str) -> None:
        guest.output.write(b"stderr" if stream == "stderr" else b"stdout", text.encode("utf-8", "replace"))

    class Calls(type(guest.calls)):  # type: ignore[misc]
        """While the guest is idle JavaScript runs, so something can always still come."""

        @property
        def any_open(self) -> bool:
            return asks() or running_loop() is None

    def asks() -> bool:
        return bool(open_calls)

    open_calls: dict[int, object] = guest.calls._open
    guest.calls.__class__ = Calls

    def ready() -> bool:
        # The signal may be noticed while this very function runs; then the flag that JavaScript looks at is down again.
        return guest.interrupts.pending or (guest._loop is not None and bool(guest._loop._ready))

    bridge.give("ready", ready)
    bridge.give("asks", asks)
    bridge.give("enter", enter)
    bridge.give("print", print_)
    del sys.modules["_cloche_bridge"]


_open()
del _open
for _name in [*globals()]:
    if not _name.startswith("__") and _name not in ("gc", "_name"):
        del globals()[_name]
globals().pop("_name", None)
gc.collect()
gc.freeze()
del gc
