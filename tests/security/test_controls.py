"""The positive controls: where nothing holds, each probe gets through, and the verdict says so.

A probe that fires nowhere would be worth nothing in test_probes.py. Those without a control are named, with the reason.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from cloche.deno_host import npm
from cloche.wasm_sandbox.image.store import cache_dir

from .canaries import planted
from .corpus import Probe, probes, repaired
from .reference_sandbox import run_native, run_pyodide
from .seen import Seen
from .verdict import judge

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(sys.platform != "linux", reason="the probes name places of Linux"),
]

NATIVE = {
    **{name: "no_escape" for name, probe in probes().items() if probe.control.startswith("cpython")},
    **dict.fromkeys(("brg-01", "brg-02", "brg-05", "hp-04", "hp-20"), "forged_is_only_output"),
    **dict.fromkeys(("brg-04", "brg-10", "hp-01", "hp-02", "hp-03", "hp-05", "hp-12", "hp-14", "hp-22"), "host_lives"),
    **dict.fromkeys(("brg-09", "brg-12", "brg-13", "brg-14"), "host_stays_quiet"),
    **dict.fromkeys(("hp-07", "hp-18", "hp-19", "hp-28"), "size_is_bounded"),
    **dict.fromkeys(("brg-07", "brg-22"), "no_secret_call"),
    **dict.fromkeys(("brg-23", "hp-27"), "no_marker"),
    **dict.fromkeys(("res-03", "res-07"), "in_time"),
    **dict.fromkeys(("res-14", "res-15"), "output_is_cut"),
    "brg-16": "round_trip_is_exact",
    "brg-19": "no_escape",
    "brg-28": "guest_holds_no_nonce",
    "hp-10": "is_the_guests_interrupt",
    "hp-11": "is_a_crash",
    "per-10": "no_escape",
}
"""By probe: the check that must find something when it runs in a plain Python."""
PYODIDE = {
    **{name: "no_escape" for name, probe in probes().items() if probe.control.startswith(("pyodide", "deno"))},
    "net-08": "no_hit",
    "net-13": "no_hit",
}
"""The same in stock Pyodide under Deno."""
ALONE = {"brg-27": "forged_is_only_output", "proc-15": "host_lives"}
"""The same again, in a process of their own: nothing works there afterwards."""
ENDLESS = frozenset({"hp-02", "res-03", "res-07"})
"""What ends them is that the test loses patience."""
NO_CONTROL = {
    **{name: "plants only; its pair is the proof" for name in probes() if name.startswith("per-") and name[-1] == "a"},
    "brg-26": "stops itself before it sends a frame; the repaired text is the proof",
    "js-08": "looks, and does nothing",
    "js-25": "measures a clock, and does nothing",
    "js-27": "lists what a snapshot could be made with, and does nothing",
    "net-07": "XMLHttpRequest is there in browsers only",
    "res-11": "a crash or a RecursionError, by the version of Python",
    "res-12": "a plain Python survives it",
}
for _name in (*NO_CONTROL, *ALONE):
    NATIVE.pop(_name, None)
    PYODIDE.pop(_name, None)


def fired(seen: Seen) -> set[str]:
    return {finding.partition(":")[0] for finding in judge(seen)}


def attack(probe: Probe) -> Seen:
    plant = probe.pair or ("per-01a" if probe.id == "per-10" else None)
    # not pytest's own folder, which is too deep for a probe that searches from the root downwards
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as child,
        planted(Path(folder)) as canaries,
    ):
        kill_s = 6.0 if probe.id in ENDLESS else 60.0
        return run_native(probe, canaries, Path(child), planted_by=probes()[plant] if plant else None, kill_s=kill_s)


def test_every_probe_has_a_control_or_a_reason_to_have_none() -> None:
    groups = (NATIVE, PYODIDE, ALONE, NO_CONTROL)
    assert sorted(name for group in groups for name in group) == sorted(probes())


@pytest.mark.parametrize("name", NATIVE)
def test_in_a_plain_python_the_attack_gets_through(name: str) -> None:
    assert NATIVE[name] in fired(attack(probes()[name]))


@pytest.mark.parametrize("name", repaired())
def test_in_a_plain_python_the_repaired_attack_gets_through(name: str) -> None:
    assert "no_secret_call" in fired(attack(repaired()[name]))


@pytest.mark.deno
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", [PYODIDE, *({name: check} for name, check in ALONE.items())], ids=lambda g: min(g))
def test_in_stock_pyodide_the_attack_gets_through(group: dict[str, str], tmp_path: Path) -> None:
    inputs = npm.fetch_inputs(cache_dir() / "npm", lambda text: None)
    (tmp_path / "child").mkdir()
    with planted(tmp_path / "canaries") as canaries:
        found = run_pyodide(
            [probes()[name] for name in group],
            canaries,
            tmp_path / "child",
            deno=inputs.deno,
            pyodide=inputs.pyodide("pyodide.asm.wasm").parent,
            cache=inputs.cache,
        )
    assert {name for name, check in group.items() if check not in fired(found[name])} == set()
