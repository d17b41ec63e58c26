"""Guests that go behind their runner and speak to the host call themselves, in each place.

The rule: what a guest can say is what its runner may say, one frame at a time. A frame that only a worker may send does
not get past the worker; one that is wrong in itself ends the sandbox; the deadline holds whatever is forged.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.places import matrix, params, where

from cloche import Limits

from .corpus import Probe
from .harness import Range, open_range
from .seen import Seen
from .verdict import judge

pytestmark = [pytest.mark.security, pytest.mark.wasmtime]

TOOLS = """
import _host, json, marshal, struct

def made(header, *parts, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(
        {**header, "attachments": [len(part) for part in parts]}, separators=(",", ":")).encode()
    body = struct.pack("<I", len(raw)) + raw + b"".join(parts)
    return struct.pack("<I", len(body) if length is None else length) + body

def value(x): return b"\\0" + marshal.dumps(x, 2)
def call(name, arguments, number=1000): return made({"type": "tool_call", "id": number, "name": name}, arguments)

OUTPUT = {"type": "output", "stream": "stdout"}
DONE = {"type": "done", "id": 0, "cpu_s": 0.0, "memory_bytes": 0, "artifacts": [], "artifacts_dropped": 0}
RESULT = {"type": "result", "has_value": True, "value_repr": None, "value_error": None, "error": None,
          "interrupted": False, "ended_by_tool": False}

def say(frame):
    try: return _host.call(frame)
    except OSError as exc: print("REFUSED", exc)
"""
REFUSED = {
    "two frames in one": "say(made(OUTPUT, b'first') + made(DONE))",
    "half a frame": "say(made(OUTPUT, b'half', length=5000))",
    "a frame with a tail": "say(made(OUTPUT, b'x') + b'tail')",
    "nothing": "say(b'')",
    "no more than a prefix": "say(bytes(8))",
    "done": "say(made(DONE))",
    "ready": "say(made({'type': 'ready'}))",
    "a limit of the engine": "say(made({'type': 'engine_limit', 'limit': 'memory_mb', 'used': 1e9}))",
    "hello": "say(made({'type': 'hello', 'protocol_version': 1, 'engine': 'x', 'image': '0' * 64}))",
    "file_done": "say(made({'type': 'file_done', 'error': None, 'paths': []}))",
    "a request of the host": "say(made({'type': 'read_file', 'path': '/etc/passwd'}))",
    "a type in other words": """say(made(b'{"type": "output","stream":"stdout","attachments":[]}'))""",
}
"""Never leaves the worker; the cell goes on."""
ENDS = {
    "two types in one header": """say(made(b'{"type":"output","type":"done","id":0,"attachments":[]}'))""",
    "a header longer than the frame": "say(struct.pack('<II', 4 + 60, 10**6) + made(OUTPUT)[8:68].ljust(60))",
    "a lying attachment": """say(made(b'{"type":"output","stream":"stdout","attachments":[4294967295]}', b'x'))""",
    "no JSON": """say(made(b'{"type":"output"' + b'[' * 100_000))""",
    "a number without end": """say(made(b'{"type":"tool_cancel","attachments":[],"id":' + b'9' * 100_000 + b'}'))""",
    "an unknown stream": "say(made({'type': 'output', 'stream': 'log'}, b'x'))",
    "a frame over the cap": "say(made(OUTPUT, bytes(9 << 20)))",
    "an id that does not rise": "say(call('echo', value([[1], {}]))); say(call('echo', value([[1], {}])))",
    "arguments of another shape": "say(call('echo', value({'x': 1})))",
    "arguments that are no value": "say(call('echo', b'\\xff' * 100))",
    "code as an argument": "say(call('echo', b'\\0' + marshal.dumps([[compile('1', '', 'eval')], {}], 2)))",
    "a reference out of nowhere": "say(call('echo', b'\\0r\\x00\\x00\\x00\\x00'))",
    "a result before the deadline, and one after": "say(made(RESULT, value(1)))\nwhile True: pass",
    "two results": "say(made(RESULT, value('FORGED:own'))); 1",
    "a call after the result": "say(made(RESULT, value('FORGED:own'))); echo(1)",
    "the engine's limit as the guest's": "say(made({'type': 'guest_limit', 'limit': 'memory_mb', 'used': 1e9}))",
    "a limit that is none": "say(made({'type': 'guest_limit', 'limit': '__dict__', 'used': 1}))",
    "a limit after the result": """
say(made(RESULT, value(1)))
say(made({'type': 'guest_limit', 'limit': 'tasks', 'used': 1}))""",
    "a cancel of nothing": "say(made({'type': 'tool_cancel', 'id': 7}))",
    "calls that nobody waits for": """
for number in range(40_000): say(made({'type': 'tool_start', 'id': number, 'name': 'nobody'}, value([[], {}])))""",
}
"""The first wrong frame: ProtocolError, the sandbox is gone."""
HARMLESS = {
    "the ungranted tool": "print(say(call('secret_tool', value([[], {}])))[-200:])",
    "another tool's name with controls": "print(say(call('\\x1b[2J\\x00', value([[], {}])))[-200:])",
    "values too deep": "x = []\nfor _ in range(500): x = [x]\nprint(say(call('echo', value([[x], {}])))[-200:])",
    "values too large": "print(say(call('echo', value([[[0] * 100_000], {}])))[-200:])",
    "a list that says it has 2**31 items": "print(say(call('echo', b'\\0[\\xff\\xff\\xff\\x7f')))[-200:])",
    "an integer too long": "print(say(call('echo', value([[10**5000], {}])))[-200:])",
    "a flood of limits": "for n in range(20_000): say(made({'type': 'guest_limit', 'limit': 'tasks', 'used': n}))",
    "a flood of small output": "for _ in range(20_000): say(made(OUTPUT, b'x' * 20))",
    "output that is no text": "for _ in range(9): say(made(OUTPUT, b'\\xff\\xfe\\xed\\xa0\\x80'))",
    "an entry called from inside": "print(_host.entry(made({'type': 'noop'})))",
}
"""The host answers or cuts; the cell ends as cells do."""
LATE = {
    "a timer of 30 000 years": "say(made({'type': 'wait', 'timeout_s': 9e11, 'any_result': False}))",
    "a wait without a call": "say(made({'type': 'wait', 'timeout_s': None, 'any_result': True}))",
    "an end that is none": "say(made(OUTPUT, b'x') + made(DONE))\nwhile True: pass",
}
"""Ends by its deadline."""
SAMPLE = (
    "two frames in one",
    "a limit of the engine",
    "no JSON",
    "a frame over the cap",
    "two results",
    "values too deep",
)
"""What the ordinary suite sends on the engine "deno"; `make test-all` sends everything."""


@pytest.fixture(scope="module")
def shooting_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with open_range(tmp_path_factory.mktemp("range")) as made:
        yield made


def shoot(place: Range, isolation: str, code: str, *, category: str = "bridge") -> Seen:
    text = TOOLS + code
    probe = Probe(
        id="own", category=category, expect="harmless", control="", host_check="", proof="", pair=None, text=text
    )
    seen = place.shoot(probe, isolation)
    assert [finding for finding in judge(seen) if not finding.startswith("expected_outcome")] == []
    return seen


@pytest.mark.parametrize(("name", "isolation"), matrix(REFUSED, SAMPLE))
def test_what_only_a_worker_may_say_is_refused_and_the_cell_goes_on(
    shooting_range: Range, isolation: str, name: str
) -> None:
    seen = shoot(shooting_range, isolation, REFUSED[name] + "\n'went on'")
    assert (seen.outcome, seen.value) == ("cell", "went on")
    assert seen.stdout.startswith("REFUSED")


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("name", "isolation"), matrix(ENDS, SAMPLE))
@pytest.mark.guarantee("G18")
@pytest.mark.guarantee("G23")
def test_a_frame_that_no_runner_sends_ends_the_sandbox(shooting_range: Range, isolation: str, name: str) -> None:
    category = "resource" if "deadline" in name else "bridge"
    ending = "FrameTooLarge" if name == "a frame over the cap" else "ProtocolError"
    assert shoot(shooting_range, isolation, ENDS[name], category=category).outcome == ending


@pytest.mark.parametrize(("name", "isolation"), matrix(HARMLESS, SAMPLE))
@pytest.mark.guarantee("G19")
def test_a_frame_that_a_runner_might_send_is_answered_within_the_caps(
    shooting_range: Range, isolation: str, name: str
) -> None:
    assert shoot(shooting_range, isolation, HARMLESS[name]).outcome == "cell"


@pytest.mark.parametrize(("name", "isolation"), matrix(LATE, SAMPLE))
def test_a_forged_wait_does_not_move_the_deadline(shooting_range: Range, isolation: str, name: str) -> None:
    assert shoot(shooting_range, isolation, LATE[name], category="resource").outcome == "TimedOut"


@pytest.mark.parametrize("isolation", params(sampled=False))
def test_a_guest_that_replaces_its_entry_changes_nothing(shooting_range: Range, isolation: str) -> None:
    with shooting_range.runtime.sandbox(**where(isolation), limits=Limits(wall_s=5)) as box:
        box.run(TOOLS + "_host.entry = lambda message: made(DONE)")
        assert box.run("20 + 1").value == 21
