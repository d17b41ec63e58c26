"""Assembles a seccomp filter: classic BPF that the kernel runs before each system call.

The rule: the architecture is checked first, then the number, and what no rule names gets the default answer. Numbers
and masks only; which call is allowed stands in seccomp.py.
"""

from __future__ import annotations

# pyright: reportUnknownVariableType=false
# the default factory of an empty dict
import struct
from collections.abc import Mapping, Sequence

from ...runtime.plain import dataclass, field

KILL_PROCESS = 0x8000_0000
REFUSE = 0x0005_0000
"""Plus an errno: the call fails with it and nothing happens."""
ALLOW = 0x7FFF_0000
ASK = 0x7FC0_0000
"""The call waits until whoever holds the filter's listener has decided; without a listener it fails (ENOSYS)."""

_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_JUMP_EQUAL, _JUMP_GREATER_OR_EQUAL = 0x15, 0x35
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENTS = 0, 4, 16
_NO_JUMP_BEYOND = 255
_INSTRUCTION = struct.Struct("<HBBI")


@dataclass(frozen=True, slots=True)
class Check:
    """One argument of a call: its low 32 bits, masked, must equal `value`, or one of `others`."""

    argument: int
    value: int
    mask: int = 0xFFFF_FFFF
    others: tuple[int, ...] = ()
    upper: bool = False
    """The high 32 bits instead: a pointer is null when both halves are 0."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A whole filter, in numbers of one architecture."""

    audit_arch: int
    foreign_from: int | None
    """Numbers from here on belong to another calling convention (x32), and are answered like another architecture."""
    allowed: Sequence[int]
    refused: Mapping[int, int]
    """number -> errno: calls that a library tries and can do without."""
    checked: Mapping[int, Sequence[Check]]
    """number -> what its arguments must be; otherwise the default answer, or that of `otherwise`."""
    default: int
    otherwise: Mapping[int, int] = field(default_factory=dict)
    """number -> errno for a checked call with other arguments."""


def assemble(rules: Rules) -> bytes:
    """The filter's instructions, 8 bytes each.

    Raises:
        ValueError: more plain calls than one jump can pass over.
    """
    plain = list(rules.allowed)
    if len(plain) > _NO_JUMP_BEYOND - 1:
        raise ValueError("too many calls for one chain of jumps")
    code = [
        _step(_LOAD, _OFFSET_ARCH),
        _step(_JUMP_EQUAL, rules.audit_arch, 1, 0),
        _step(_RETURN, KILL_PROCESS),
        _step(_LOAD, _OFFSET_NUMBER),
    ]
    if rules.foreign_from is not None:
        code += [_step(_JUMP_GREATER_OR_EQUAL, rules.foreign_from, 0, 1), _step(_RETURN, KILL_PROCESS)]
    for index, number in enumerate(plain):
        code.append(_step(_JUMP_EQUAL, number, len(plain) - index, 0))
    code += [_step(_JUMP, 1), _step(_RETURN, ALLOW)]
    for number, errno in rules.refused.items():
        code += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, REFUSE | errno)]
    for number, checks in rules.checked.items():
        body = _checked(checks, REFUSE | rules.otherwise[number] if number in rules.otherwise else rules.default)
        code += [_step(_JUMP_EQUAL, number, 0, len(body)), *body]
    code.append(_step(_RETURN, rules.default))
    return b"".join(code)


def assemble_question(audit_arch: int, number: int) -> bytes:
    """A filter that asks its listener about one call, and says nothing about any other."""
    return b"".join(
        (
            _step(_LOAD, _OFFSET_ARCH),
            _step(_JUMP_EQUAL, audit_arch, 1, 0),
            _step(_RETURN, KILL_PROCESS),
            _step(_LOAD, _OFFSET_NUMBER),
            _step(_JUMP_EQUAL, number, 0, 1),
            _step(_RETURN, ASK),
            _step(_RETURN, ALLOW),
        )
    )


def _checked(checks: Sequence[Check], otherwise: int) -> list[bytes]:
    """All checks in turn: the first that fails jumps to the last step, the last that holds to the one before."""
    tail = [_step(_RETURN, ALLOW), _step(_RETURN, otherwise)]
    body: list[bytes] = []
    for check in reversed(checks):
        values = (check.value, *check.others)
        place = _OFFSET_ARGUMENTS + 8 * check.argument + (4 if check.upper else 0)
        steps = [_step(_LOAD, place), _step(_AND, check.mask)]
        for left, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
            steps.append(_step(_JUMP_EQUAL, value, left, 0 if left else len(body) + 1))
        body = steps + body
    return body + tail


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, value)
