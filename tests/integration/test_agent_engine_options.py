"""`engine_options` of an agent reach its sandboxes, and no others: a sub-agent has options of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from cloche import CodeAgent, ConfigError, Runtime, SandboxOptions, ScriptedModel

pytestmark = [
    pytest.mark.deno,
    pytest.mark.skipif(sys.platform != "linux", reason="the engine starts its workers on Linux only"),
]
FFI = {"js_ffi": True}
BOUND_S = 60.0
HAS_JS = "try:\n    import js\n    has_js = True\nexcept ImportError:\n    has_js = False\n"


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime(engine="deno", warm_workers=0) as made:
        yield made


def says(code: str) -> ScriptedModel:
    return ScriptedModel([f"```python\n{HAS_JS}final_answer({code})\n```"])


def test_each_agent_gets_the_engine_options_of_its_own_sandbox_and_no_other(runtime: Runtime) -> None:
    plain = CodeAgent([], says("has_js"), runtime=runtime, name="plain", description="Has no options.")
    opened = CodeAgent(
        [], says("has_js"), runtime=runtime, engine_options=FFI, name="opened", description="Has options."
    )
    manager = CodeAgent(
        [],
        says("[has_js, plain('Look.'), opened('Look.')]"),
        managed_agents=[plain, opened],
        sandbox=SandboxOptions(engine_options=FFI, runtime=runtime),
    )
    assert manager.run("Look.", deadline_s=BOUND_S).output == [True, False, True]


def test_sub_agents_of_a_plain_agent_keep_their_options(runtime: Runtime) -> None:
    opened = CodeAgent(
        [],
        says("has_js"),
        sandbox=SandboxOptions(engine="deno", engine_options=FFI, runtime=runtime),
        name="opened",
        description="Has options.",
    )
    manager = CodeAgent([], says("[has_js, opened('Look.')]"), managed_agents=[opened], runtime=runtime)
    assert manager.run("Look.", deadline_s=BOUND_S).output == [False, True]


def test_engine_options_that_cannot_be_are_refused_when_the_agent_is_made() -> None:
    model = ScriptedModel([])
    with pytest.raises(ConfigError, match="has no options"):
        CodeAgent([], model, sandbox=SandboxOptions(engine="wasmtime", engine_options=FFI))
    with pytest.raises(ConfigError, match="unknown engine option 'ffi'"):
        CodeAgent([], model, engine="deno", engine_options={"ffi": True})
    with Runtime(engine="wasmtime") as runtime, pytest.raises(ConfigError, match="has no options"):
        CodeAgent([], model, sandbox=SandboxOptions(engine_options=FFI, runtime=runtime))
    with pytest.raises(ConfigError, match="give one or the other"):
        CodeAgent([], model, engine_options=FFI, sandbox=SandboxOptions(engine="deno"))
