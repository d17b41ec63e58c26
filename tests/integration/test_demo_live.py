"""The demo with a live model: the same task, tools and attacks, its words from an endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.chat_server import chat_server, reply

pytestmark = pytest.mark.wasmtime
BOUND_S = 110

CODE = """```python
high = [station for station in list_stations() if altitude(station) > 300]
final_answer(round(sum(rainfall(station, "2024-07") for station in high) / len(high), 1))
```"""


def test_the_demo_runs_live_with_the_model_of_the_environment(root: Path) -> None:
    with chat_server(reply(CODE)) as server:
        environ = {"CLOCHE_MODEL": "mine", "CLOCHE_BASE_URL": server.url, "CLOCHE_API_KEY": "k-1"}
        done = subprocess.run(
            [sys.executable, str(root / "tests/support/patiently.py"), str(root / "examples/demo.py")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environ},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=BOUND_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "The model is live: mine." in done.stdout
    assert "recorded" not in done.stdout
    assert "122.4 (final); the host's own calculation: 122.4" in done.stdout
    assert "stopped after 4 s; the sandbox's state is kept" in done.stdout
    assert [request.json["model"] for request in server.requests] == ["mine"]
