"""The verdict over what was seen while a probe ran: a list of findings, empty when the sandbox held.

The rule: every check reads the same record, whether cloche made it or the weak reference sandbox, so that a check which
never fires there has shown nothing. `GENERAL` goes for all probes, `BY_PROBE` has what single headers ask for.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from .canaries import TOKEN
from .seen import Seen, walk, words

GRACE_S = 5.0
"""From the deadline to the outcome. Generous: suites run on loaded machines; the benchmark holds the real figure. Less
than what a probe has where nothing holds it (test_controls.py), or that would show nothing."""
MAX_REPR = 16_384
MAX_ERROR = 64 * 1024
PING_S = 10.0
PLANTED = "CANARY-PLANT"


Check = Callable[[Seen], Iterable[str]]

GUEST_OWN_WORDS = frozenset({"hp-01", "hp-05", "hp-10", "hp-18", "brg-22"})
"""They raise exceptions with FORGED in them: `cell.error` and `value_repr` quote the guest, as they say."""
FORGED_AS_ARGUMENT = frozenset({"brg-16"})
"""Sends FORGED to `echo` on purpose, as data."""
MAY_CRASH = frozenset({"hp-11", "hp-12", "proc-15", "res-11", "res-12"})
MAY_BREAK_PROTOCOL = frozenset({"brg-27"})
MUST_TIME_OUT = frozenset(f"res-{number}" for number in ("01", "02", "05", "07", "21", "22", "23", "26", "27", "30"))
MAY_TIME_OUT = frozenset({"res-03", "res-12", "res-15", "res-28", "brg-22"})
NEEDS_CTYPES = frozenset({"fs-13", "net-15", "proc-08", "proc-12"})
"""They import ctypes unguarded, which is not part of the sandbox: the ImportError is what stops them."""


def judge(seen: Seen) -> list[str]:
    """All findings, each a sentence that begins with the name of its check."""
    checks = [*GENERAL, *BY_PROBE.get(seen.probe.id, ())]
    return [f"{check.__name__}: {finding}" for check in checks for finding in check(seen)]


# --- for all probes ---------------------------------------------------------------------------------------------------


def no_escape(seen: Seen) -> Iterable[str]:
    yield from re.findall(rf"^ESCAPED:{seen.probe.id}.*$", seen.said, re.MULTILINE)


def no_token(seen: Seen) -> Iterable[str]:
    for where, text in seen.texts().items():
        yield from (f"{found} in {where}" for found in sorted(set(TOKEN.findall(text))))


def no_hit(seen: Seen) -> Iterable[str]:
    if seen.hits or seen.contacts:
        yield f"the canary server was reached {seen.contacts} times, {seen.hits} by name"


def no_marker(seen: Seen) -> Iterable[str]:
    yield from seen.pwned


def no_secret_call(seen: Seen) -> Iterable[str]:
    if seen.secret_calls:
        yield f"the ungranted tool ran {seen.secret_calls} times"


def host_lives(seen: Seen) -> Iterable[str]:
    if seen.outcome in ("hang", "host died"):
        yield f"{seen.outcome}: {seen.message[-300:]}"
    if seen.host_growth_bytes > seen.host_budget_bytes:
        yield f"host memory grew by {seen.host_growth_bytes >> 20} MiB, {seen.host_budget_bytes >> 20} are allowed"


def host_opens_nothing(seen: Seen) -> Iterable[str]:
    yield from seen.audit


def host_stays_quiet(seen: Seen) -> Iterable[str]:
    if seen.printed:
        yield f"the host printed {seen.printed[:200]!r}"
    yield from (f"a traceback in the log: {record[-300:]!r}" for record in seen.log if "Traceback" in record)


def worker_holds(seen: Seen) -> Iterable[str]:
    if seen.worker_budget_bytes and seen.worker_peak_bytes > seen.worker_budget_bytes:
        yield f"worker memory {seen.worker_peak_bytes >> 20} MiB, {seen.worker_budget_bytes >> 20} are allowed"
    if seen.worker_children:
        yield f"the worker has {seen.worker_children} children"
    if seen.worker_environ:
        yield f"the worker has an environment of {seen.worker_environ} bytes"
    if seen.worker_left:
        yield "the worker outlived its sandbox"


def others_are_served(seen: Seen) -> Iterable[str]:
    if seen.neighbour:
        yield f"another sandbox meanwhile: {seen.neighbour}"
    if seen.slowest_ping_s > PING_S:
        yield f"another sandbox waited {seen.slowest_ping_s:.1f} s for an answer"
    if seen.next_session:
        yield f"the next sandbox: {seen.next_session}"


def in_time(seen: Seen) -> Iterable[str]:
    if seen.wall_s > seen.deadline_s + GRACE_S:
        yield f"took {seen.wall_s:.1f} s, the deadline was {seen.deadline_s:g} s"


def expected_outcome(seen: Seen) -> Iterable[str]:
    name = seen.probe.id
    allowed = {"cell"}
    if name in MUST_TIME_OUT or (name == "hp-02" and not seen.final_answer):
        allowed = {"TimedOut"}
    if name in MAY_TIME_OUT:
        allowed.add("TimedOut")
    if name in MAY_CRASH:
        allowed.add("WorkerCrashed")
    if name in MAY_BREAK_PROTOCOL:
        allowed |= {"ProtocolError", "FrameTooLarge"}
    if seen.outcome not in allowed:
        yield f"{seen.outcome} {seen.message[:300]!r}, expected {' or '.join(sorted(allowed))}"


def attack_took_place(seen: Seen) -> Iterable[str]:
    """A probe that dies before its attack would look like one that was stopped."""
    name, said = seen.probe.id, seen.said
    if f"SKIP:{name}" in said:
        yield "the probe found no tool"
    if name in NEEDS_CTYPES and "No module named 'ctypes'" in seen.error_text:
        return
    if seen.probe.expect == "blocked" and seen.outcome == "cell" and f"BLOCKED:{name}" not in said:
        yield f"no BLOCKED line; {seen.error_type} {seen.error_text[-300:]!r}"
    if re.search(rf"BLOCKED:{name} (Name|Syntax|Indentation|UnboundLocal)Error", said):
        yield "the probe itself is broken: " + said[-300:]


def forged_is_only_output(seen: Seen) -> Iterable[str]:
    name = seen.probe.id
    theirs = {"stdout", "stderr"}
    if name in GUEST_OWN_WORDS:
        theirs |= {"error", "value_repr", "value_error"}
    if name in FORGED_AS_ARGUMENT:
        theirs |= {"tool arguments"}
    forged = [where for where, text in seen.texts().items() if f"FORGED:{name}" in text and where not in theirs]
    if forged:
        yield f"FORGED in {', '.join(forged)}"


def size_is_bounded(seen: Seen) -> Iterable[str]:
    marks = 200  # two marks "[output cut: ...]"
    if len(seen.stdout.encode("utf-8", "replace")) + len(seen.stderr.encode("utf-8", "replace")) > (
        seen.output_bytes + marks
    ):
        yield f"{len(seen.stdout) + len(seen.stderr)} characters of output, {seen.output_bytes} bytes are allowed"
    for what, text, most in (
        ("value_repr", seen.value_repr, MAX_REPR),
        ("value_error", seen.value_error, MAX_REPR),
        ("error", seen.error_type + seen.error_text, MAX_ERROR),
        ("message", seen.message, MAX_ERROR),
    ):
        if len(text) > most:
            yield f"{what} has {len(text)} characters"
    if any(len(record) > MAX_ERROR for record in seen.log):
        yield "a log record without bound"


def log_is_one_line_per_event(seen: Seen) -> Iterable[str]:
    if any(ord(char) < 32 and char not in "\n\t" for record in seen.log for char in record):
        yield "control characters in the log"
    if not (seen.shown + seen.message).isprintable():
        yield f"a text for logs and terminals has control characters or lines: {ascii(seen.shown + seen.message)[:200]}"


GENERAL: tuple[Check, ...] = (
    no_escape,
    no_token,
    no_hit,
    no_marker,
    no_secret_call,
    host_lives,
    host_opens_nothing,
    host_stays_quiet,
    worker_holds,
    others_are_served,
    in_time,
    expected_outcome,
    attack_took_place,
    forged_is_only_output,
    size_is_bounded,
    log_is_one_line_per_event,
)


# --- for single probes ------------------------------------------------------------------------------------------------


def ran_to_its_end(seen: Seen) -> Iterable[str]:
    """Each call returned or raised something that the probe could catch."""
    if f"DONE:{seen.probe.id}" not in seen.stdout:
        yield f"no DONE line: {seen.outcome} {seen.error_type} {seen.error_text[-300:]}"


def tools_saw_plain_data(seen: Seen) -> Iterable[str]:
    yield from (f"a tool was given {kind}" for kind in sorted(set(_strange_types(seen.tool_arguments))))


def no_text_became_structure(seen: Seen) -> Iterable[str]:
    injected = [word for word in words(seen.tool_arguments) if word.startswith(("tool", "FORGED", "secret"))]
    if injected:
        yield f"injected: {injected}"


def round_trip_is_exact(seen: Seen) -> Iterable[str]:
    forged = f"FORGED:{seen.probe.id}"
    sent = [
        {"__proto__": {"polluted": forged}},
        {"constructor": {"prototype": {"polluted": forged}}},
        {"toJSON": "x"},
        {"then": "x"},
        {"length": 1e9},
        {1: "a", "1": "b"},
        {None: 1, True: 2, 1.5: 3},
        {"hasOwnProperty": 1, "toString": 2, "valueOf": 3},
        {"$ref": "#"},
        {"__class__": "x"},
        {"": {"": {"": 1}}},
    ]
    for arrived in seen.tool_arguments:
        if repr(arrived) not in map(repr, sent):
            yield f"{arrived!r} arrived, nobody sent it"
    if len(seen.stdout.split("INFO:")) - 1 != len(sent):
        yield "not every call was answered"


def is_a_crash(seen: Seen) -> Iterable[str]:
    if seen.outcome != "WorkerCrashed":
        yield f"reported as {seen.outcome}, never a success: {seen.message[:200]}"


def is_a_crash_or_refused(seen: Seen) -> Iterable[str]:
    if seen.outcome != "WorkerCrashed" and f"BLOCKED:{seen.probe.id}" not in seen.stdout:
        yield f"the worker ended and it was reported as {seen.outcome}"


def is_the_guests_interrupt(seen: Seen) -> Iterable[str]:
    if (seen.outcome, seen.error_type) != ("cell", "KeyboardInterrupt") or seen.limits:
        yield f"an exception of the guest passed for the host's: {seen.outcome} {seen.error_type} {seen.limits}"


def output_is_cut(seen: Seen) -> Iterable[str]:
    if not seen.cut and seen.outcome == "cell":  # on a slow machine the deadline may come first
        yield "no mark that output was cut"


def names_are_safe(seen: Seen) -> Iterable[str]:
    for artifact in seen.artifacts:
        if not re.fullmatch(r"[\w][\w.-]{0,254}", artifact.name) or ".." in artifact.name:
            yield f"artifact name {artifact.name!r}"
        if artifact.data.startswith(b"root:"):
            yield "an artifact has a file of the host"


def says_nothing_of_the_host(seen: Seen) -> Iterable[str]:
    names = {os.uname().nodename, sys.prefix, sys.executable, str(Path.cwd()), str(Path.home())}
    yield from (f"the guest sees {word!r}" for word in sorted(names) if len(word) > 5 and word in seen.said)


def guest_holds_no_nonce(seen: Seen) -> Iterable[str]:
    if "INFO:brg-28 []" not in seen.stdout:
        yield "something like a token lies in guest memory; no decision of the host may rest on it: " + seen.stdout


_PLAIN = frozenset(
    {
        "NoneType",
        "bool",
        "int",
        "float",
        "str",
        "bytes",
        "list",
        "tuple",
        "dict",
        "set",
        "frozenset",
        "complex",
        "Decimal",
        "datetime",
        "date",
        "time",
        "timedelta",
        "timezone",
    }
)


def _strange_types(value: object) -> Iterable[str]:
    yield from (type(item).__name__ for item in walk(value) if type(item).__name__ not in _PLAIN)


BY_PROBE: dict[str, tuple[Check, ...]] = {
    **dict.fromkeys(("brg-09", "brg-10", "brg-12", "brg-13", "brg-14"), (ran_to_its_end, tools_saw_plain_data)),
    "brg-16": (round_trip_is_exact, tools_saw_plain_data),
    "brg-22": (tools_saw_plain_data, no_text_became_structure),
    "brg-28": (guest_holds_no_nonce,),
    "env-07": (says_nothing_of_the_host,),
    "hp-10": (is_the_guests_interrupt,),
    "hp-11": (is_a_crash,),
    "hp-20": (ran_to_its_end,),
    "hp-27": (ran_to_its_end, names_are_safe),
    "proc-15": (is_a_crash_or_refused,),
    "res-14": (output_is_cut,),
    "res-15": (output_is_cut,),
}
