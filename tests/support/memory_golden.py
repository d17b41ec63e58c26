"""A run in which every kind of step, message and value stands, and a conversation around it: what the golden files of
the memory format hold (tests/memory_files). Nothing here is random, and no set has more than one item: two processes
would not write it in one order."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from cloche import Artifact, Cell, Message, ModelReply, RunResult, TokenUsage
from cloche.agents.budget import Spent
from cloche.agents.messages import Image, ToolCallRequest
from cloche.agents.result import (
    ActionStep,
    AnyStep,
    FinalAnswerStep,
    PlanningStep,
    StepError,
    TaskStep,
    Timing,
    ToolRecord,
)
from cloche.runtime.cell import LimitHit, Usage
from cloche.runtime.metadata import Metadata
from cloche.runtime.protocol import GuestError
from cloche.runtime.tool_hooks import ToolOutcomeKind

PIXEL: Final = Image(b"\x89PNG\r\n\x1a\n\x00\xff", "image/png")
LOOKS_LIKE_JSON: Final = ('{"a": [1, null]}', "null", "true", "007", "1e400", '"quoted"', '{"$value": "AAAA"}', "NaN")
VALUES: Final[dict[str, object]] = {
    "nothing": None,
    "truth": [True, False, 1, 0, 1.0, -0.0],
    "texts": list(LOOKS_LIKE_JSON),
    "signs": 'tab\t, nul\0, quote", backslash\\, line\u2028, snowman ☃, beyond 𝄞, right to left \u202e',
    "numbers": [2**63 - 1, -(2**63) + 1, 2**63, 10**40, 0.1, 1e308, 5e-324, float("inf"), float("-inf")],
    "bytes": b"\x00\xff{}",
    "tuple": (1, ("2",)),
    "set": {1},
    "frozenset": frozenset({"a"}),
    "times": [
        datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
        datetime(2024, 2, 29, 12, 30),
        date(2024, 2, 29),
        time(23, 59, 59),
        timedelta(days=-1, microseconds=1),
    ],
    "decimal": Decimal("1.10"),
    "other keys": {1: "int", (2, 3): "tuple", "1": "text"},
    "tag": {"$value": "a key of the user, not ours"},
    "deep": [[[[{"a": {"b": []}}]]]],
}
"""Every type of the value set, and texts that a careless reader would take for something else."""

_METADATA: Final = Metadata(
    cloche="0.1.0",
    engine="wasmtime",
    isolation="process",
    wasmtime="50.0.1",
    pyodide="314.0.7",
    python="3.14.2",
    image="a" * 64,
    walls=("wasm", "seccomp"),
)
_CALL: Final = ToolCallRequest("call_1", "get_price", {"item": "tea", "note": '{"not": "parsed"}'})
_BAD_CALL: Final = ToolCallRequest("call_2", "get_price", invalid_arguments='{"item": tea')
_USAGE: Final = TokenUsage(
    input_tokens=310,
    output_tokens=48,
    cached_tokens=300,
    reasoning_tokens=7,
    cache_write_tokens=10,
    cost_usd=0.00125,
)
_CUT: Final = ModelReply(
    text="I will ask.",
    usage=_USAGE,
    finish_reason="tool_calls",
    tool_calls=(_CALL, _BAD_CALL),
    echo={"thinking": [{"type": "signed", "signature": "c2ln", "n": 1, "ok": True}]},
    response_id="resp-1",
    response_model="tiny-2024",
)
_OUTCOMES: Final[tuple[ToolOutcomeKind, ...]] = ("error", "refused", "timeout", "cancelled")
_FIRST_CELL: Final = Cell(
    value=VALUES,
    value_repr="{'nothing': None, ...}",
    stdout="héllo\n",
    stderr="warning\n",
    output_cut=True,
    artifacts=(Artifact("plot.png", "/out/plot.png", "image/png", b"\x89PNG", hashlib.sha256(b"\x89PNG").hexdigest()),),
    artifacts_dropped=2,
    limits=(LimitHit("output_bytes", 2048.0, 1024.0), LimitHit("tasks", 11, 10)),
    usage=Usage(0.5, 0.125, 0.25, 9_437_184, 2048, 3, 0.0625, 120, 64, 1),
    ended_by="get_price",
    metadata=_METADATA,
)
_FAILED_CELL: Final = Cell(
    value_error="a generator cannot cross",
    error=GuestError(
        type="ValueError", message='{"looks": "like JSON"}', traceback="Traceback:\n  cell 2, line 3\n", line=3
    ),
    interrupted=True,
    complete=False,
)


def golden_run() -> RunResult:
    """One run: a task with inputs and a picture, plans, steps that went well, failed and ran nothing, an answer."""
    steps = _steps()
    plan = ModelReply(text="1. ask\n2. answer", finish_reason="other")
    trace: tuple[AnyStep, ...] = (
        TaskStep(task="What does tea cost?", inputs={"rows": "[1, 2]", "json": '"{}"'}, images=(PIXEL,)),
        PlanningStep(number=1, plan="1. ask\n2. answer", reply=plan, model_s=0.5),
        *steps[:2],
        PlanningStep(number=3, plan="go on", reply=ModelReply(text="go on", usage=TokenUsage())),
        *steps[2:],
        FinalAnswerStep(output=VALUES),
    )
    return RunResult(
        output=VALUES,
        stop_reason="final",
        steps=steps,
        trace=trace,
        usage=_USAGE,
        usage_complete=False,
        spent=Spent(steps=6, tokens=1024, cost_usd=0.0025, tool_calls=4, sandbox_s=0.75),
        timing=Timing(total_s=2.5, model_s=1.5, sandbox_s=0.75),
        messages=_messages(),
        run_id="0123456789abcdef",
    )


def golden_conversation() -> tuple[tuple[Message, ...], tuple[RunResult, ...]]:
    """Messages and results of a conversation: the run above, one that was denied and one whose steps are not in its
    trace."""
    denied = RunResult(
        output=None,
        stop_reason="denied",
        steps=(_steps()[1],),
        usage=TokenUsage(),
        timing=Timing(total_s=0.0, model_s=0.0, sandbox_s=0.0),
        messages=(_messages()[1],),
    )
    return (*_messages(), Message("user", "And milk?")), (golden_run(), denied)


def _steps() -> tuple[ActionStep, ...]:
    tools = (
        ToolRecord(id="1", name="get_price", arguments="{'item': 'tea'}", outcome="ok", seconds=0.125),
        ToolRecord(
            id="2",
            name="order",
            arguments="{}",
            outcome="denied",
            error=StepError(type="ToolDenied", message="nobody may"),
        ),
        *(
            ToolRecord(id=str(at), name="order", arguments="", outcome=outcome)
            for at, outcome in enumerate(_OUTCOMES, 3)
        ),
    )
    return (
        ActionStep(
            number=1,
            reply=_CUT,
            thought="I will ask.",
            code="print('héllo')\nVALUES",
            cell=_FIRST_CELL,
            tool_calls=tools,
            observation="Output:\nhéllo",
            model_s=0.75,
            sandbox_s=0.5,
        ),
        ActionStep(
            number=2,
            reply=ModelReply(text="```python\nx = (\n```", finish_reason="length"),
            code="x = (",
            cell=_FAILED_CELL,
            observation="Error in line 3: ValueError",
            error=StepError(type="ValueError", message='{"looks": "like JSON"}'),
        ),
        ActionStep(
            number=3,
            reply=ModelReply(text="No code."),
            error=StepError(type="ParsingError", message="no code"),
            observation="Write one block.",
        ),
        ActionStep(number=4, reply=ModelReply(text="done"), code="final_answer(1)", cell=Cell(), is_final=True),
    )


def _messages() -> tuple[Message, ...]:
    return (
        Message("system", "You solve tasks."),
        Message("user", "What does tea cost?", images=(PIXEL, Image(b"GIF89a", "image/gif"))),
        _CUT.message,
        Message("tool", "3.5", tool_call_id="call_1"),
        Message("tool", '{"error": "no JSON"}', tool_call_id="call_2"),
        Message("assistant", "", echo={"$value": "not ours"}),
        Message("user", ""),
    )
