"""Sandboxes that hold nothing, as positive controls: a probe that does not get through here shows nothing.

`run_native` is a plain Python with the rights of the test, `run_pyodide` stock Pyodide under Deno with all permissions.
Both give the same record as the harness for cloche, so that the same verdict speaks about all three. The probes are
harmless even there, by their own ceilings and a few rlimits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .canaries import Canaries
from .corpus import Probe, prepared
from .seen import Seen

HERE = Path(__file__).resolve().parent
DEADLINE_S = 0.5
"""Told to the probe; nobody enforces it."""
MEMORY_MB = 64
"""Told to the probe."""
ADDRESS_SPACE_MB = {"res-18": 4096}  # 2000 stacks
OUTPUT_BYTES = 256 * 1024
BASE_BYTES = 40 * 2**20
"""What the child takes before it runs anything, at most."""
REAP_S = 10.0
PYODIDE_S = 240.0


def run_native(
    probe: Probe, canaries: Canaries, folder: Path, *, planted_by: Probe | None = None, kill_s: float
) -> Seen:
    """One run in a child process that is killed `kill_s` seconds after its start, with what the host saw.

    Args:
        probe: what to run.
        canaries: where they are.
        folder: an empty folder for the child's files.
        planted_by: a probe that ran before in the same process, as another tenant.
        kill_s: when the test, not the sandbox, loses patience.
    """
    code = prepared(probe, canaries, deadline_s=DEADLINE_S, memory_mb=MEMORY_MB)
    paths = {name: folder / f"{name}.txt" for name in ("stdout", "stderr", "report", "calls")}
    config = {
        "codes": [code] if planted_by is None else [planted_by.text, code],
        "secret": canaries.tool_token,
        "memory_bytes": ADDRESS_SPACE_MB.get(probe.id, 1024) * 2**20,
        **{name: str(path) for name, path in paths.items()},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    seen = _fresh(probe)
    contacts, hits = canaries.server.contacts, canaries.server.hits(probe.id)
    started = time.monotonic()
    command = [sys.executable, "-I", str(HERE / "weak_host.py"), str(folder / "config.json")]
    status = _run_child(command, canaries.folder, {"TMPDIR": str(folder)}, kill_s)
    seen.wall_s = time.monotonic() - started
    seen.contacts = canaries.server.contacts - contacts
    seen.hits = canaries.server.hits(probe.id) - hits
    seen.pwned = canaries.pwned()
    seen.stdout, seen.stderr, seen.secret_calls = (
        *map(_text, (paths["stdout"], paths["stderr"])),
        len(_text(paths["calls"])),
    )
    if report := _text(paths["report"]):
        _read_report(json.loads(report), seen)
    elif status is not None:
        seen.outcome, seen.message = "host died", f"exit status {status}"
    return seen


def run_pyodide(
    probes: Sequence[Probe], canaries: Canaries, folder: Path, *, deno: Path, pyodide: Path, cache: Path
) -> dict[str, Seen]:
    """All probes in one process and one interpreter, one after the other.

    Args:
        probes: what to run, in order.
        canaries: where they are.
        folder: an empty folder for the child's files.
        deno: the executable.
        pyodide: folder of the npm package `pyodide`.
        cache: Deno's.
    """
    codes = [
        {"id": probe.id, "code": prepared(probe, canaries, deadline_s=DEADLINE_S, memory_mb=MEMORY_MB)}
        for probe in probes
    ]
    config, report = folder / "config.json", folder / "report.json"
    config.write_text(json.dumps({"pyodide": str(pyodide), "report": str(report), "probes": codes}), encoding="utf-8")
    flags = ["--no-config", "--no-lock", "--cached-only", "--no-prompt", "--allow-all"]
    command = [str(deno), "run", *flags, str(HERE / "weak_pyodide.mjs"), str(config)]
    status = _run_child(command, folder, {"DENO_DIR": str(cache), "DENO_NO_UPDATE_CHECK": "1"}, PYODIDE_S)
    told = json.loads(_text(report) or "{}")
    found: dict[str, Seen] = {}
    for probe in probes:
        seen = found[probe.id] = _fresh(probe)
        seen.hits = seen.contacts = canaries.server.hits(probe.id)
        if probe.id in told:
            seen.outcome, seen.stdout, seen.value = "cell", told[probe.id]["text"], told[probe.id]["value"]
        elif status is not None:
            seen.outcome, seen.message = "host died", f"exit status {status}"
    return found


def _fresh(probe: Probe) -> Seen:
    return Seen(probe=probe, outcome="hang", deadline_s=DEADLINE_S, output_bytes=OUTPUT_BYTES, final_answer=True)


def _run_child(command: list[str], cwd: Path, variables: dict[str, str], kill_s: float) -> int | None:
    """Its exit status; None where it had to be killed. The environment is inherited, canary and all."""
    child = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return child.wait(kill_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # its children too
        child.wait(REAP_S)


def _read_report(report: dict[str, object], seen: Seen) -> None:
    for name in ("outcome", "error_type", "error_text", "stdout", "stderr", "value", "value_repr", "log"):
        setattr(seen, name, report[name])
    seen.tool_arguments = [report["tool_arguments"]]
    seen.host_growth_bytes = max(0, int(str(report["peak_bytes"])) - BASE_BYTES)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
