"""A tracer that writes OpenTelemetry spans, by the conventions for generative AI. Needs only `opentelemetry-api`.

    invoke_agent {agent}       one run; the run of a sub-agent is below the call that started it
      chat {model}             one request
      execute_tool python      one cell, with code hash, engine, CPU time and memory under `cloche.*`
        execute_tool {tool}    one call of a tool

The rule: nothing that a user, a model or a guest wrote leaves this process unless `capture_content=True`; tools and
agents have names of the host. The conventions are in development and their package marks the names as moved, so they
are copied here. A failure in a span processor is logged and never reaches the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, cast

from ..runtime import lazy
from ..runtime.cell import Cell
from ..runtime.errors import ClocheError, ConfigError
from ..runtime.extras import install_command
from ..runtime.safe_logs import logged
from .messages import Message, ModelReply
from .result import RunResult, ToolRecord
from .tracing import End, Operation, Outcome

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.trace import Tracer as OtelTracer

_log = lazy.logger("cloche.telemetry")

Attributes = dict[str, str | int | float | bool | list[str]]
MAX_CONTENT_CHARS: Final = 8192
"""Of one captured attribute."""
_SPAN_NAMES: Final = {
    "invoke_agent": "invoke_agent",
    "chat": "chat",
    "execute_tool": "execute_tool",
    "cell": "execute_tool",
}


class OpenTelemetryTracer:
    """Give it to an agent: `CodeAgent(..., tracer=OpenTelemetryTracer())`. One object serves any number of runs."""

    def __init__(
        self,
        *,
        provider: TracerProvider | None = None,
        capture_content: bool = False,
        provider_name: str | None = None,
        conversation_id: str | None = None,
    ) -> None:
        """
        Args:
            provider: where spans go; None: the global one.
            capture_content: put tasks, messages, code, arguments and results into spans, each cut to 8192 characters.
            provider_name: `gen_ai.provider.name`, such as "openai".
            conversation_id: `gen_ai.conversation.id` of all its spans.

        Raises:
            ConfigError: `opentelemetry-api` is not installed.
        """
        try:
            from opentelemetry import context, trace
        except ImportError:
            raise ConfigError(f"OpenTelemetry is missing: {install_command('otel')}") from None
        from ..runtime.metadata import VERSION

        self._context, self._trace = context, trace
        self._tracer: OtelTracer = trace.get_tracer("cloche", VERSION, tracer_provider=provider)
        self._capture = capture_content
        common = {"gen_ai.provider.name": provider_name, "gen_ai.conversation.id": conversation_id}
        self._common: Attributes = {name: value for name, value in common.items() if value is not None}

    def __repr__(self) -> str:
        common = "".join(f" {name}={value!r}" for name, value in self._common.items())
        return f"<{type(self).__name__}{common} capture_content={self._capture}>"

    def begin(self, operation: Operation) -> End:
        """As `Tracer.begin`. Never raises."""
        try:
            return self._begin(operation)
        except Exception as exc:  # noqa: BLE001  # tool dispatch: an exporter's failure is not the run's
            _log.warning("a span could not be started", exc_info=logged(exc))
            return _nothing

    def _begin(self, operation: Operation) -> End:
        kind = self._trace.SpanKind.CLIENT if operation.kind == "chat" else self._trace.SpanKind.INTERNAL
        name = f"{_SPAN_NAMES[operation.kind]} {operation.name}".strip()
        attributes = {**self._common, **_started(operation), **(_content_before(operation) if self._capture else {})}
        span = self._tracer.start_span(name, kind=kind, attributes=attributes)
        token = None
        if operation.kind != "execute_tool":  # a tool's may end in another context than the one it began in
            token = self._context.attach(self._trace.set_span_in_context(span))
        return self._ender(operation, span, token)

    def _ender(self, operation: Operation, span: Span, token: Token[Context] | None) -> End:
        def end(outcome: Outcome) -> None:
            try:
                self._finish(operation, span, outcome)
            except Exception as exc:  # noqa: BLE001  # as above
                _log.warning("a span could not be ended", exc_info=logged(exc))
            finally:
                span.end()
                if token is not None:
                    self._context.detach(token)

        return end

    def _finish(self, operation: Operation, span: Span, outcome: Outcome) -> None:
        span.set_attributes(_ended(operation, outcome))
        if self._capture:
            span.set_attributes(_content_after(outcome))
        failed = _error_type(outcome)
        if failed is not None:
            span.set_attribute("error.type", failed)
            span.set_status(self._trace.StatusCode.ERROR)


# --- attributes -------------------------------------------------------------------------------------------------------


def _started(operation: Operation) -> Attributes:
    found: Attributes = {"gen_ai.operation.name": _SPAN_NAMES[operation.kind], "cloche.run.id": operation.run_id}
    if operation.step:
        found["cloche.step"] = operation.step
    match operation.kind:
        case "invoke_agent":
            found |= {"gen_ai.agent.name": operation.name, "gen_ai.agent.id": operation.run_id}
            parent = operation.facts.get("parent_run_id")
            if isinstance(parent, str):
                found["cloche.run.parent_id"] = parent
        case "chat":
            found["gen_ai.request.model"] = operation.name
        case "cell":
            code = str(operation.facts.get("code", ""))
            digest = hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
            found |= {"gen_ai.tool.name": "python", "gen_ai.tool.type": "extension", "cloche.code.sha256": digest}
        case "execute_tool":
            found |= {"gen_ai.tool.name": operation.name, "gen_ai.tool.type": "function"}
            found["gen_ai.tool.call.id"] = str(operation.facts.get("call_id", ""))
    return found


def _ended(operation: Operation, outcome: Outcome) -> Attributes:
    facts = outcome.facts
    found: Attributes = {}
    result, reply, cell, record = (facts.get(name) for name in ("result", "reply", "cell", "record"))
    if operation.kind == "invoke_agent" and isinstance(result, RunResult):
        found = _of_run(result)
    elif isinstance(reply, ModelReply):
        found = _of_reply(reply)
    elif isinstance(cell, Cell):
        found = _of_cell(cell)
    elif isinstance(record, ToolRecord):
        found = {"cloche.tool.outcome": record.outcome}
    return found


def _of_run(result: RunResult) -> Attributes:
    return {
        **_tokens(result.usage.input_tokens, result.usage.output_tokens),
        "cloche.run.stop_reason": result.stop_reason,
        "cloche.run.steps": len(result.steps),
        "cloche.run.tool_calls": result.spent.tool_calls,
        "cloche.run.cost_usd": result.spent.cost_usd,
        "cloche.run.sandbox_s": result.timing.sandbox_s,
    }


def _of_reply(reply: ModelReply) -> Attributes:
    found: Attributes = {"gen_ai.response.finish_reasons": [reply.finish_reason]}
    named = {"gen_ai.response.model": reply.response_model, "gen_ai.response.id": reply.response_id}
    found |= {name: value[:256] for name, value in named.items() if value}
    usage = reply.usage
    if usage is None:
        return found
    found |= _tokens(usage.input_tokens, usage.output_tokens)
    extra = {
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    found |= {name: count for name, count in extra.items() if count}
    if usage.cost_usd is not None:
        found["cloche.cost_usd"] = usage.cost_usd
    return found


def _tokens(asked: int, answered: int) -> Attributes:
    return {"gen_ai.usage.input_tokens": asked, "gen_ai.usage.output_tokens": answered}


def _of_cell(cell: Cell) -> Attributes:
    usage = cell.usage
    found: Attributes = {
        "cloche.cell.ok": cell.ok,
        "cloche.cell.wall_s": usage.wall_s,
        "cloche.cell.cpu_s": usage.cpu_s,
        "cloche.cell.memory_peak_bytes": usage.memory_bytes,  # wasm memory never shrinks
        "cloche.cell.output_cut": cell.output_cut,
        "cloche.cell.output_bytes": usage.output_bytes,
        "cloche.cell.tool_calls": usage.tool_calls,
        "cloche.cell.tool_bytes_in": usage.tool_bytes_in,
        "cloche.cell.tool_bytes_out": usage.tool_bytes_out,
        "cloche.cell.limits": [hit.limit for hit in cell.limits],
    }
    if cell.metadata is not None:
        found |= {
            "cloche.engine": cell.metadata.engine,
            "cloche.isolation": cell.metadata.isolation,
            "cloche.image.sha256": cell.metadata.image,
        }
    return found


def _error_type(outcome: Outcome) -> str | None:
    """A name that the host chose: names of a guest's exceptions are the guest's, and stand as `guest_error`."""
    if isinstance(outcome.error, ClocheError):
        return outcome.error.code
    if outcome.error is not None:
        return type(outcome.error).__qualname__[:128]
    cell, record = outcome.facts.get("cell"), outcome.facts.get("record")
    if isinstance(cell, Cell) and not cell.ok:
        return "guest_error" if cell.error is not None else "incomplete"
    if isinstance(record, ToolRecord) and record.outcome != "ok":
        return record.outcome
    return None


# --- content, only on request -----------------------------------------------------------------------------------------


def _content_before(operation: Operation) -> Attributes:
    facts = operation.facts
    found: Attributes = {}
    if operation.kind == "invoke_agent":
        found["gen_ai.input.messages"] = _json([_part("user", str(facts.get("task", "")))])
    elif operation.kind == "chat":
        messages = cast("tuple[Message, ...]", facts.get("messages", ()))
        found["gen_ai.input.messages"] = _json([_part(message.role, message.content) for message in messages])
    elif operation.kind == "cell":
        found["gen_ai.tool.call.arguments"] = _json({"code": str(facts.get("code", ""))})
    else:
        found["gen_ai.tool.call.arguments"] = _json(facts.get("arguments"))
    return found


def _content_after(outcome: Outcome) -> Attributes:
    facts = outcome.facts
    reply, result, cell = facts.get("reply"), facts.get("result"), facts.get("cell")
    if isinstance(reply, ModelReply):
        return {"gen_ai.output.messages": _json([_part("assistant", reply.text)])}
    if isinstance(result, RunResult):
        return {"gen_ai.output.messages": _json([_part("assistant", repr(result.output))])}
    if isinstance(cell, Cell):
        return {"gen_ai.tool.call.result": _json({"value": cell.value_repr, "stdout": cell.stdout})}
    return {"gen_ai.tool.call.result": _json(result)} if "record" in facts else {}


def _part(role: str, text: str) -> Mapping[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": text[:MAX_CONTENT_CHARS]}]}


def _json(value: object) -> str:
    """The start of the value as JSON. Piece by piece: arguments may be large, and only their start is wanted."""
    shown: Callable[[object], str] = repr
    parts: list[str] = []
    left = MAX_CONTENT_CHARS
    for piece in json.JSONEncoder(default=shown, skipkeys=True).iterencode(value):
        parts.append(piece[:left])
        left -= len(piece)
        if left <= 0:
            break
    return "".join(parts)


def _nothing(outcome: Outcome) -> None:
    """The end of a span that never began."""
