"""What an import is, and what its handler may use.

The rules of every handler: its pointers and numbers are an attacker's, so memory is reached through `Box.memory` only
(which checks and raises MemoryFault), loops and copies have a constant bound, and nothing is allocated that neither a
constant nor a quota bounds. It raises nothing but MemoryFault, or whatever `Box.exit` raises.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol

from ...runtime.plain import record
from .. import errno
from ..filesystem import FsError

if TYPE_CHECKING:
    from ..filesystem import FileSystem
    from ..memory import GuestMemory
    from ..world import World

Kind = Literal["real", "benign", "errno", "trap"]
"""real: does what its name says, inside the sandbox · benign: a true answer that does nothing · errno: refused with an
error that the guest can handle · trap: ends the instance."""

Handler = Callable[..., int | float | None]


class Box(Protocol):
    """The part of an instance that handlers use."""

    @property
    def memory(self) -> GuestMemory: ...

    @property
    def files(self) -> FileSystem: ...

    @property
    def world(self) -> World: ...

    @property
    def memory_limit(self) -> int:
        """Bytes that the linear memory may reach."""
        ...

    def grow_memory(self, new_bytes: int, /) -> bool:
        """Grow the linear memory to at least `new_bytes`."""
        ...

    def refuse_memory(self, new_bytes: int, /) -> None:
        """Note that the guest asked for more memory than its limit."""
        ...

    def exit(self, code: int, message: str = "", /) -> NoReturn | None:
        """End the instance. Raises."""
        ...


@record
class Import:
    """One host import: who answers, how, and why so."""

    handler: Handler
    """Called with the box and the wasm arguments (i32 unsigned, i64 signed, f64)."""
    kind: Kind
    why: str
    """One line for docs/host-imports.md."""
    fault: int = 0
    """The result when a pointer leads outside the memory."""


def syscall(handler: Handler, kind: Kind, why: str) -> Import:
    """An import in the Linux convention: a failure is a negative error number."""

    @functools.wraps(handler)
    def answer(box: Box, *arguments: int) -> int | float | None:
        try:
            return handler(box, *arguments)
        except FsError as exc:
            return -exc.errno

    return Import(answer, kind, why, -errno.EFAULT)


def wasi(handler: Handler, kind: Kind, why: str) -> Import:
    """An import in the WASI convention: the result is an error number, 0 for success."""

    @functools.wraps(handler)
    def answer(box: Box, *arguments: int) -> int | float | None:
        try:
            return handler(box, *arguments)
        except FsError as exc:
            return exc.errno

    return Import(answer, kind, why, errno.EFAULT)


def refusal(number: int, why: str) -> Import:
    """A Linux-style call that is always refused with this error number, whatever its arguments."""

    def refuse(_box: Box, *_arguments: int) -> int:
        return -number

    return Import(refuse, "errno", why, -number)


def constant(value: int, kind: Kind, why: str) -> Import:
    """An import with the same answer for everybody."""

    def answer(_box: Box, *_arguments: int) -> int:
        return value

    return Import(answer, kind, why, value)


def signed(value: int) -> int:
    """An unsigned i32 as the C `int` it was."""
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value
