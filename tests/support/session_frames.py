"""The host's state machine without a worker: a session, and the frames that a guest and its engine would send it."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from typing import Any, NoReturn

from cloche.runtime.limits import Limits
from cloche.runtime.output import OnOutput
from cloche.runtime.protocol import ArtifactInfo, Done, Frame, GuestError, Result, parse_to_worker, render
from cloche.runtime.running_cell import CellRequest
from cloche.runtime.session import Session
from cloche.runtime.tools import tool
from cloche.runtime.values import ValueLimits, encode

VALUES = ValueLimits()
_NONE_BY_NAME: dict[str, object] = {}
ARGUMENTS = encode([["tea"], _NONE_BY_NAME], VALUES)
"""Of a call of `get_price`."""
ERROR = GuestError(type="ValueError", message="no", traceback="ValueError: no\n", line=3)


@tool
def get_price(item: str) -> float:
    """Price of an item."""
    return {"tea": 2.5}[item]


class NoRunner:
    """These tests have no async tools."""

    def start(self, call: Callable[[], Awaitable[object]], context: contextvars.Context, /) -> Future[object]:
        raise AssertionError("nothing async runs here")


def no_pool() -> NoReturn:
    raise AssertionError("nothing runs beside the serving thread here")


def request(
    code: str = "1",
    inputs: dict[str, object] | None = None,
    on_output: OnOutput | None = None,
    pool: Callable[[], Executor] = no_pool,
) -> CellRequest:
    return CellRequest(
        code=code,
        inputs=inputs or {},
        on_output=on_output,
        context=contextvars.copy_context(),
        async_runner=NoRunner(),
        thread_pool=pool,
        deadline_monotonic=time.monotonic() + 10,
    )


def session_in_cell(on_output: OnOutput | None = None, **limits: Any) -> Session:
    """A session whose first cell runs, with the tool `get_price`."""
    session = Session([get_price], Limits(**limits))
    session.begin_cell(request(on_output=on_output))
    return session


def send(session: Session, frame: Frame, *attachments: bytes) -> bytes | None:
    """A frame of the other side; what the session answers."""
    return session.on_frame(render(frame, attachments))


def result(**fields: object) -> Result:
    """How the guest says that its cell ended: without value and error, but for `fields`."""
    plain: dict[str, object] = {
        "has_value": False,
        "value_repr": None,
        "value_error": None,
        "error": None,
        "interrupted": False,
        "ended_by_tool": False,
    }
    return Result(**{**plain, **fields})  # type: ignore[arg-type]


def done(*paths: str, cell_id: int = 0, dropped: int = 0) -> Done:
    artifacts = tuple(ArtifactInfo(path=path) for path in paths)
    return Done(id=cell_id, cpu_s=0.5, memory_bytes=1000, artifacts=artifacts, artifacts_dropped=dropped)


def read(frame: bytes | None) -> tuple[object, list[bytes]]:
    assert frame is not None
    parsed, parts = parse_to_worker(frame, max_bytes=10**9)
    return parsed, [bytes(part) for part in parts]
