"""Runs inside the guest while an image is built, as the last thing before its snapshot: installs the runner.

Leaves nothing behind in `__main__`, collects all garbage and takes what is left out of the collector's sight. The
folder of cells comes last on the path of imports: a file there is found as it is anywhere, and none hides a module of
ours.
"""

import gc
import sys
from importlib import import_module

sys.path.append("")
_host = import_module("_host")
import_module("_cloche").install()
_host.set_entry(_host.entry)
_host.call(b"preloaded" + "\n".join(sorted(sys.modules)).encode())
for _name in [*globals()]:
    if not _name.startswith("__") and _name not in ("gc", "_name"):
        del globals()[_name]
globals().pop("_name")
gc.collect()
gc.collect()
gc.freeze()
del gc
