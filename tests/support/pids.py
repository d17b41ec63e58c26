"""The pid of a worker, for a test that sends it a signal."""

from __future__ import annotations

from cloche.runtime.process_link import ProcessLink


def pid_of(link: ProcessLink) -> int:
    """Waits until the fork server has told it: a signal to pid 0 would hit the tests themselves."""
    pid = link.process.wait_pid(10)
    assert pid
    return pid
