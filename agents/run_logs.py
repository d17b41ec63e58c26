"""What a run tells the standard library's `logging`, under the name `cloche.agents`.

INFO: a run began or ended. WARNING: it ended with an error. DEBUG: a step ended. The rule: names, numbers and reasons
of the host are in the message; what a model or a guest wrote is there only as one escaped and truncated line, and a
task, a code or an answer is not there at all.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..runtime import lazy
from ..runtime.safe_logs import one_line

if TYPE_CHECKING:
    from .result import ActionStep, RunResult

_log = lazy.logger("cloche.agents")


def log_start(run_id: str, agent: str, tools: int) -> None:
    """A run begins."""
    _log.info("run %s of agent %r begins with %d tools", run_id, agent, tools)


def log_step(run_id: str, step: ActionStep) -> None:
    """A step is over."""
    if _log.isEnabledFor(logging.DEBUG):
        error = "" if step.error is None else f", {one_line(step.error.type)}: {one_line(step.error.message)}"
        _log.debug(
            "run %s step %d: model %.3f s, sandbox %.3f s, %d tool calls%s",
            run_id,
            step.number,
            step.model_s,
            step.sandbox_s,
            len(step.tool_calls),
            error,
        )


def log_end(result: RunResult) -> None:
    """A run is over."""
    spent = result.spent
    _log.info(
        "run %s ended: %s after %d steps, %d tokens, %d tool calls, %.3f s",
        result.run_id,
        result.stop_reason,
        len(result.steps),
        spent.tokens,
        spent.tool_calls,
        result.timing.total_s,
    )


def log_failure(run_id: str, exc: BaseException) -> None:
    """A run raised."""
    if isinstance(exc, Exception):
        _log.warning("run %s failed with %s: %s", run_id, type(exc).__name__, one_line(str(exc)))
    else:
        _log.info("run %s was cancelled by its caller", run_id)
