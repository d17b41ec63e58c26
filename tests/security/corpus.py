"""The probes: attack texts of `probes/`, their headers, and what is written in front of a text before it runs.

The rule: a probe is data here. It is read as text and runs inside a sandbox only, or in the weak reference sandbox.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from .canaries import Canaries

FOLDER = Path(__file__).resolve().parent / "probes"
OUT_MB = 4
_HEADER = re.compile(r"# ([a-z-]+): (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    id: str
    category: str
    expect: str
    """"blocked", "contained" or "harmless"."""
    control: str
    """Where the attack is known to work: "cpython: escaped", "pyodide: escaped", "host-check", ..."""
    host_check: str
    """What is to be looked at outside the guest, as a sentence; empty if nothing is."""
    proof: str
    """What the attack is and what would show that it worked."""
    pair: str | None
    """The probe that plants what this one looks for."""
    text: str

    @property
    def answers(self) -> bool:
        """Whether it hands a hostile object to `final_answer`, if there is such a tool."""
        return len(re.findall(r"\banswer\(", self.text)) > 1


@functools.cache
def probes() -> dict[str, Probe]:
    """All probes by id, in order."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.py"))}


def _read(path: Path) -> Probe:
    text = path.read_text(encoding="utf-8")
    found = filter(None, map(_HEADER.fullmatch, text.splitlines()))
    fields: dict[str, str] = {line[1]: line[2] for line in found}
    if fields["id"] != path.stem:
        raise ValueError(f"{path.name} says that it is {fields['id']}")
    return Probe(
        id=fields["id"],
        category=fields["category"],
        expect=fields["expect"],
        control=fields["control"],
        host_check=fields.get("host-check", ""),
        proof=fields["proof"],
        pair=fields["pair"] if fields.get("phase") == "check" else None,
        text=text,
    )


def prepared(probe: Probe, canaries: Canaries, *, deadline_s: float, memory_mb: int, before: str = "") -> str:
    """The text as it runs: where the canaries are and what the limits are stands in front."""
    names: dict[str, object] = {
        "CANARY_FILE": str(canaries.file),
        "CANARY_ENV": canaries.env_name,
        "CANARY_PORT": canaries.server.port,
        "CANARY_DEADLINE": deadline_s,
        "CANARY_MEM_MB": memory_mb,
        "CANARY_OUT_MB": OUT_MB,
        "CANARY_TOOL": "echo",
        "CANARY_SECRET_TOOL": "secret_tool",
    }
    return "".join(f"{name} = {value!r}\n" for name, value in names.items()) + before + "\n" + probe.text


def repaired() -> dict[str, Probe]:
    """Probes that trip over themselves, with the one line out of the way that makes them; the originals run as well."""
    probe = probes()["brg-26"]  # it patches `json.dumps` and then what that calls: endless recursion, no frame at all
    text = "\n".join(
        line for line in probe.text.splitlines() if "JSONEncoder.encode = " not in line and line != HANDLER
    )
    return {"brg-26": dataclasses.replace(probe, text=text + "\n")}


HANDLER = "except BaseException: pass"
