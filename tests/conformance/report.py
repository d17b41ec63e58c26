"""What happened, as lines for a terminal and as the page docs/conformance.md."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence

from .host import Outcome
from .known import GROUPS, find_group
from .modules import LEFT_OUT, MODULES

_HEAD = """\
# CPython's own tests inside the guest

CPython is the judge of its own behaviour, so its tests run in a sandbox: they show that the small-object allocator, the
host imports and the guest's patches are sound. The tests come from the `test` package of a CPython 3.13 on the machine
and go straight into the sandbox's own file system; nothing of them is in this repository. The guest is CPython
{guest}, so some tests of 3.13 fail for what 3.14 changed.

Reproduce with `python -m tests.conformance` (a page like this: `--page FILE`; some modules: name them;
`--isolation thread`). It needs a CPython 3.13 with its `test` package as `python3.13` on the PATH or in pyenv. Each
module runs in a sandbox of its own. A test that is in no group below makes the run fail, and so does a lost sandbox.
`make test-all` runs the C types, json, re, sqlite3 and asyncio this way, `make test` a few seconds of it.
Groups were judged by reading each failure; no native CPython 3.14 was at hand to run the same tests on.

{date}, tests of CPython {tests}, guest CPython {guest}, image {image}, {isolation} isolation, {machine}.

**{passed} of {run} tests that were not skipped pass ({rate:.1%}); {failed} fail for the reasons below; {lost} lost the
sandbox.**

"""
_GUEST_SIDE = """
The guest side stands in for names of 3.13 that 3.14 has no more (`_testcapi.Py_C_RECURSION_LIMIT`,
`_testinternalcapi.suppress_immortalization`), so that the tests behind them run. `_pydecimal` and `dbm`, which Pyodide
leaves out of its standard library, come from the host's for the modules that need them.
"""


def line(outcome: Outcome) -> str:
    """One line per module."""
    skipped = sum(outcome.skipped.values())
    counts = f"run {outcome.run:5} passed {outcome.passed:5} skipped {skipped:4} failed {outcome.failed:3}"
    return f"{outcome.module:<38} {counts} lost {len(outcome.lost)} {outcome.seconds:6.1f} s"


def unknown(outcome: Outcome) -> list[str]:
    """What no group explains: failures, modules that did not load, lost sandboxes."""
    rows = [(test, text) for test, _kind, text in outcome.bad] + outcome.refused
    return [f"{test}: {text}" for test, text in rows if find_group(test) is None] + [
        f"{test} ended the sandbox: {text}" for test, text in outcome.lost
    ]


def page(outcomes: Sequence[Outcome], isolation: str, tests: str, guest: str, image: str) -> str:
    """The whole page."""
    skipped = sum(sum(outcome.skipped.values()) for outcome in outcomes)
    run = sum(outcome.run for outcome in outcomes) - skipped
    passed = sum(outcome.passed for outcome in outcomes)
    head = _HEAD.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        tests=tests,
        guest=guest,
        image=image,
        isolation=isolation,
        machine=f"{platform.system()} {platform.machine()}",
        passed=passed,
        run=run,
        rate=passed / max(run, 1),
        failed=sum(outcome.failed for outcome in outcomes),
        lost=sum(len(outcome.lost) for outcome in outcomes),
    )
    return "".join([head, *_modules(outcomes), *_groups(outcomes), *_skips(outcomes), *_left_out(), _GUEST_SIDE])


def _modules(outcomes: Iterable[Outcome]) -> Iterable[str]:
    yield "| module | run | passed | skipped | failed, by group |\n| --- | ---: | ---: | ---: | --- |\n"
    for outcome in outcomes:
        failed: dict[str, int] = {}
        for test in {test for test, _, _ in outcome.bad} | {name for name, _ in outcome.refused}:
            group = find_group(test) or "unexplained"
            failed[group] = failed.get(group, 0) + 1
        reasons = ", ".join(f"{count} {group}" for group, count in sorted(failed.items()))
        skipped = sum(outcome.skipped.values())
        yield f"| {outcome.module} | {outcome.run} | {outcome.passed} | {skipped} | {reasons} |\n"


def _groups(outcomes: Iterable[Outcome]) -> Iterable[str]:
    yield "\n## Why tests fail\n\n"
    found: dict[str, set[str]] = {}
    for outcome in outcomes:
        for test in {test for test, _, _ in outcome.bad} | {name for name, _ in outcome.refused}:
            found.setdefault(find_group(test) or "unexplained", set()).add(test.removeprefix("test."))
    for group, sentence in GROUPS.items():
        names = sorted(found.get(group, ()))
        if names:
            yield f"**{group}** ({len(names)}): {sentence}\n\n<details><summary>which</summary>\n\n"
            yield "".join(f"- `{name}`\n" for name in names) + "\n</details>\n\n"


def _skips(outcomes: Iterable[Outcome]) -> Iterable[str]:
    yield "## Why tests are skipped\n\nTheir own words, the most frequent first.\n\n"
    reasons: dict[str, int] = {}
    for outcome in outcomes:
        for reason, count in outcome.skipped.items():
            reasons[reason] = reasons.get(reason, 0) + count
    yield "| count | reason |\n| ---: | --- |\n"
    for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:25]:
        yield f"| {count} | {reason.replace('|', '/')} |\n"


def _left_out() -> Iterable[str]:
    yield "\n## What does not run at all\n\n"
    yield from (f"- `{name}`: {reason}\n" for name, reason in LEFT_OUT.items())
    single = {name: reason for module in MODULES for name, reason in module.left_out.items()}
    yield from (f"- `{name.removeprefix('test.')}`: {reason}\n" for name, reason in single.items())
