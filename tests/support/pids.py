"""The pid of a worker, for a test that looks at it or sends it a signal.

The rule: it is waited for. A worker's `hello` may arrive before its fork server's word of who it is.
"""

from __future__ import annotations

from cloche import Sandbox
from cloche.runtime.process_link import ProcessLink


def pid_of(link: ProcessLink) -> int:
    """Waits until the fork server has told it: a signal to pid 0 would hit the tests themselves."""
    pid = link.process.wait_pid(10)
    assert pid
    return pid


def pid_of_box(box: Sandbox) -> int | None:
    """Of the worker that serves the sandbox; None in thread isolation."""
    link = worker_of(box)
    return None if link is None else pid_of(link)


def worker_of(box: Sandbox) -> ProcessLink | None:
    """The link to the sandbox's worker; None in thread isolation. The public API has no use for it."""
    leased: object = getattr(getattr(box, "_core", None), "_link", None)
    link = getattr(leased, "_link", leased)
    return link if isinstance(link, ProcessLink) else None
