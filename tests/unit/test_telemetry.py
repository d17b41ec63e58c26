"""OpenTelemetry spans of a run: names, parents, attributes; content only on request."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.support.agent_worker import block
from tests.support.agents import calls, code_agent, fake_runtime, tool_agent

from cloche import OpenTelemetryTracer, Runtime
from cloche.agents.errors import ModelError

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with fake_runtime() as made:
        yield made


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_run_is_a_tree_of_spans(runtime: Runtime, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    tracer = OpenTelemetryTracer(provider=provider, provider_name="local", conversation_id="c1")
    run = code_agent(
        runtime, block('ask_tool ["get_price", "tea"]', "final_answer 4"), tracer=tracer, name="adder"
    ).run("Add the secret.")
    spans = named(exporter)
    assert list(spans) == ["chat scripted", "execute_tool get_price", "execute_tool python", "invoke_agent adder"]
    root, chat, cell = spans["invoke_agent adder"], spans["chat scripted"], spans["execute_tool python"]
    tool = spans["execute_tool get_price"]
    assert root.parent is None
    assert root.context is not None
    assert cell.context is not None
    assert [span.parent and span.parent.span_id for span in (chat, cell)] == [root.context.span_id] * 2
    assert tool.parent is not None
    assert tool.parent.span_id == cell.context.span_id
    assert [span.kind for span in (root, chat, cell)] == [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.INTERNAL]
    found = dict(root.attributes or {})
    assert found["gen_ai.operation.name"] == "invoke_agent"
    assert found["gen_ai.agent.name"] == "adder"
    assert found["gen_ai.conversation.id"] == "c1"
    assert found["gen_ai.provider.name"] == "local"
    assert found["cloche.run.id"] == run.run_id
    assert found["cloche.run.stop_reason"] == "final"
    assert found["gen_ai.usage.input_tokens"] == run.usage.input_tokens
    assert dict(chat.attributes or {})["gen_ai.response.finish_reasons"] == ("stop",)
    of_cell = dict(cell.attributes or {})
    assert of_cell["gen_ai.tool.type"] == "extension"
    assert len(str(of_cell["cloche.code.sha256"])) == 64
    assert {"cloche.cell.cpu_s", "cloche.cell.memory_peak_bytes", "cloche.cell.ok"} <= of_cell.keys()
    assert dict(tool.attributes or {})["gen_ai.tool.type"] == "function"
    everything = " ".join(span.to_json() for span in exporter.get_finished_spans())
    assert "Add the secret" not in everything


def test_content_is_captured_only_on_request(
    runtime: Runtime, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    tracer = OpenTelemetryTracer(provider=provider, capture_content=True)
    code_agent(runtime, block("final_answer 4"), tracer=tracer, name="adder").run("Add " + "x" * 20_000)
    spans = named(exporter)
    asked = str(dict(spans["invoke_agent adder"].attributes or {})["gen_ai.input.messages"])
    assert asked.startswith('[{"role": "user"')
    assert len(asked) <= 8192
    code = str(dict(spans["execute_tool python"].attributes or {})["gen_ai.tool.call.arguments"])
    assert json.loads(code) == {"code": "final_answer 4"}


def test_a_failed_tool_and_a_failed_run_are_errors_with_names_of_the_host(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    tracer = OpenTelemetryTracer(provider=provider)
    agent = tool_agent(calls(("get_price", {"item": "gold"})), ModelError("down"), tracer=tracer, name="buyer")
    with pytest.raises(ModelError):
        agent.run("Buy.")
    spans = named(exporter)
    tool, root = spans["execute_tool get_price"], spans["invoke_agent buyer"]
    assert dict(tool.attributes or {})["error.type"] == "error"
    assert dict(root.attributes or {})["error.type"] == "model"
    assert [span.status.status_code for span in (tool, root)] == [StatusCode.ERROR] * 2
    assert "gold" not in " ".join(span.to_json() for span in exporter.get_finished_spans())


def test_a_span_processor_that_fails_does_not_end_the_run(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: object, parent_context: object = None) -> None:
            raise RuntimeError("no \x1b[31mspace")

        def on_end(self, span: object) -> None:
            raise RuntimeError("no space")

    provider = TracerProvider()
    provider.add_span_processor(Broken())
    tracer = OpenTelemetryTracer(provider=provider)
    assert code_agent(runtime, block("final_answer 4"), tracer=tracer).run("Add.").output == 4
    assert "a span could not be started" in caplog.text
    assert "\x1b" not in caplog.text


def test_a_tracer_shows_how_it_is_set_up(provider: TracerProvider) -> None:
    made = OpenTelemetryTracer(provider=provider, provider_name="local")
    assert repr(made) == "<OpenTelemetryTracer gen_ai.provider.name='local' capture_content=False>"
