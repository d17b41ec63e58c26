"""Options of a sandbox that cannot be: a typed error that says what to write."""

from __future__ import annotations

import pytest

from cloche import ConfigError, Runtime, Sandbox
from cloche.runtime.fake_link import FakeSource, answer


def test_options_of_the_wrong_kind_say_what_to_write() -> None:
    with Runtime(sources={"process": FakeSource(answer(1))}) as runtime:
        with pytest.raises(ConfigError, match=r"limits is Limits, such as Limits\(wall_s=10\), not \{'wall_s': 1\}"):
            runtime.sandbox(limits={"wall_s": 1})  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="runtime is an open Runtime or AsyncRuntime, not 5"):
            Sandbox(runtime=5)  # type: ignore[arg-type]
        with runtime.sandbox() as box, pytest.raises(ConfigError, match="on_output is a function"):
            box.run("1", on_output="x")  # type: ignore[arg-type]
