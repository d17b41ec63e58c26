"""Runs cells: one namespace, one context and one event loop for the life of the sandbox.

Rule: a cell ends in exactly one `result` frame, whatever its code does. `run` is a generator: it yields a `wait` frame
when the guest has nothing to do, and goes on after the `wake` was delivered; so no stack is alive in between. The
interrupt is armed only around user code (interrupts.py).
"""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import gc
import io
import linecache
import sys
from collections.abc import Callable, Coroutine, Generator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import display
from .calls import CellEnd
from .frames import Outcome, encode_small, is_small
from .loop import NEVER, CellLoop
from .program import RUN, VALUE, Compiler, Program
from .reprs import bounded_repr

if TYPE_CHECKING:
    from ...runtime import values
    from .entry import Guest
else:
    from . import values

MAX_REPR = 16_384
MAX_VALUE_ERROR = 4096
_SWEEP_S = 1.0
"""Time that cancelled tasks get for their clean-up."""
_LEAST_RECURSION = 1000
_TOO_LATE = "encoding the value raised KeyboardInterrupt"
_asyncio_run = asyncio.run
_is_coroutine = asyncio.iscoroutine
_get_running_loop, _set_running_loop = asyncio._get_running_loop, asyncio._set_running_loop
_StringIO = io.StringIO
_repr = repr
_encode: Callable[[Any, values.ValueLimits], bytes] = values.encode
_FIRST_NAMES = [sys.intern(f"<cell {number}>") for number in range(1, 9)]
"""Python interns the name of what it compiles: one that the image has need not be entered in that large table."""
_run_code = eval  # noqa: S307  # this is the place where cells run

Steps = Generator[bytes, None, Any]


class Deferred:
    """What `asyncio.run(coroutine)` as the last statement gives at first: the runner awaits it."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine


class Runner:
    """The cells of one sandbox."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._calls = guest.calls
        self._reserve = guest.reserve
        self._interrupts = guest.interrupts
        self._compiler = Compiler()
        self._context = contextvars.copy_context()
        self.renew_namespace()
        self._sources: dict[str, tuple[int, None, list[str], str]] = {}
        self._name = ""
        self._task: asyncio.Task[Any] | None = None

    def renew_namespace(self) -> None:
        """A namespace of this sandbox's own. The image's is frozen (`gc.freeze`), and through what is frozen CPython
        3.14's collector does not look from its roots: for each 2000 new objects it then goes through all that the names
        lead to, and a list that grows at the top of a cell takes time with its square."""
        self._main = ModuleType("__main__")
        self.namespace: dict[str, Any] = self._main.__dict__
        self.namespace["__builtins__"] = builtins

    def run(self, source: str, inputs: dict[str, Any], output_bytes: int) -> Generator[bytes, None, None]:
        """One cell, up to and including its `result` frame."""
        outcome = Outcome()
        self._begin(output_bytes)
        try:
            self._register(source)
            if inputs:
                self.namespace.update(inputs)
            program, value = self._execute(source)
            if program.is_async or program.runs_asyncio:
                value = yield from self._await(program, value)
            elif not program.is_expression:
                value = self.namespace.pop(VALUE, None)
        except BaseException as exc:  # the guest runner: all that user code raises is data
            value = None
            self._settle(exc, outcome)
        self.namespace.pop(RUN, None)
        if self._guest.used_loop() is not None or self._calls.any_open:
            yield from self._sweep(quiet=False)
        self._task = None
        if outcome.error is None and not self._calls.ended and value is not None:
            self._show(value, outcome)
        del value
        self._finish(outcome)

    # --- begin and end ------------------------------------------------------------------------------------------------

    def _begin(self, output_bytes: int) -> None:
        """Put right what the last cell may have left in disorder."""
        self._interrupts.install()
        self._calls.begin()
        self._guest.output.begin(output_bytes)
        sys.modules["__main__"] = self._main
        if _get_running_loop() is not None:  # some code ran a loop and never came back to it
            _set_running_loop(None)
            self._guest.drop_loop()
        for name, function in self._guest.tools.functions.items():
            self.namespace.setdefault(name, function)
        _restore_interpreter()

    def _register(self, source: str) -> None:
        """Let tracebacks and `inspect` find the cell's lines, now and from later cells."""
        self._name = f"<cell {len(self._sources) + 1}>"
        lines = [source + "\n"] if _is_one_line(source) else _StringIO(source + "\n", None).readlines()
        entry = (len(source), None, lines, self._name)
        self._sources[self._name] = linecache.cache[self._name] = entry

    def _finish(self, outcome: Outcome) -> None:
        _restore_interpreter()
        outcome.interrupted = self._interrupts.seen
        if self._calls.ended:
            outcome.ended_by_tool, outcome.error = True, None
        try:
            self._tell(outcome)
        except MemoryError:
            self._reserve.let_go()
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        """Send what is left to be said; the result last, so that this can be done again when it fails."""
        self._guest.output.flush()
        self._calls.tell_limits()
        self._guest.send_result(outcome)

    # --- the code -----------------------------------------------------------------------------------------------------

    def _execute(self, source: str) -> tuple[Program, Any]:
        """Compile and run. Not a generator: one would turn a StopIteration of the user into a RuntimeError."""
        program = self._compiler.compile(source, self._name)
        if program.runs_asyncio:
            self.namespace[RUN] = _defer_asyncio_run
        if self._reserve.is_short:
            self._reserve.hold()
        return program, self._interrupts.call(self._context.run, _run_code, program.code, self.namespace)

    def _await(self, program: Program, value: Any) -> Steps:
        """The value of the cell after all that it awaits; None if it has none."""
        if program.is_async:
            value = yield from self._drive(value)
        if not program.is_expression:
            value = self.namespace.pop(VALUE, None)
        if program.runs_asyncio:
            value = yield from self._run_deferred(program, value)
        return value

    def _run_deferred(self, program: Program, value: Any) -> Steps:
        """Await what `asyncio.run` at the end of the cell was given, then cancel the tasks it left, as that does."""
        target = program.run_target
        waiting = value if target is None else self.namespace.get(target)
        if type(waiting) is not Deferred:
            return value
        if target is not None:
            del self.namespace[target]
        result = yield from self._drive(waiting.coroutine)
        yield from self._sweep(quiet=True)
        if target is None:
            return result
        self.namespace[target] = result
        return None

    def _drive(self, coroutine: Coroutine[Any, Any, Any]) -> Steps:
        """Run a coroutine as a task of the sandbox's loop; yields whenever nothing is ready."""
        loop = self._guest.loop()
        task = loop.create_task(coroutine, name=self._name, context=self._context)
        task.add_done_callback(lambda _: loop.stop())
        self._task = task
        try:
            while not task.done():
                loop.step()
                if task.done() or not loop.is_idle:
                    continue
                timeout_s = loop.next_timeout()
                if timeout_s is None and not self._calls.any_open:
                    task.cancel(NEVER)
                else:
                    yield self._calls.wait_frame(timeout_s, any_result=True)
        except BaseException:
            # The interrupt, or `sys.exit` in some task. A result that was ready before it came is kept.
            if not task.done() or task.cancelled() or task.exception() is not None:
                raise
        return task.result()

    def _sweep(self, *, quiet: bool) -> Generator[bytes, None, None]:
        """End the tasks and tool calls that the cell left behind, and say so."""
        loop = self._guest.used_loop()
        tasks = asyncio.all_tasks(loop) if loop is not None else None
        if loop is not None and tasks:
            others = tasks - {self._task}
            if others and not quiet:
                self._guest.output.warn(f"{_count(len(others))} cancelled at the end of the cell: {_names(others)}")
            for task in tasks:
                task.cancel()
            for _ in range(len(tasks) + 1):
                try:
                    yield from self._until_done(loop, tasks)
                except KeyboardInterrupt:
                    break
                except BaseException:  # noqa: S112  # `sys.exit` or the end of the cell, raised by one of them
                    continue
                break
            self._leave_behind({task for task in tasks if not task.done()})
        self._calls.abandon()

    def _until_done(self, loop: CellLoop, tasks: set[asyncio.Task[Any]]) -> Generator[bytes, None, None]:
        """Run cancelled tasks to their end, as long as something can wake them and for a bounded time."""
        end = loop.time() + _SWEEP_S
        while True:
            loop.step()
            if all(task.done() for task in tasks):
                return
            timeout_s, left_s = loop.next_timeout(), end - loop.time()
            if left_s <= 0.0 or (timeout_s is None and not self._calls.any_open):
                return
            if loop.is_idle:
                yield self._calls.wait_frame(left_s if timeout_s is None else min(timeout_s, left_s), any_result=True)

    def _leave_behind(self, tasks: set[asyncio.Task[Any]]) -> None:
        if not tasks:
            return
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is said here
        self._guest.output.warn(f"{_count(len(tasks))} did not end when cancelled: {_names(tasks)}")
        self._guest.drop_loop()

    # --- what it came to ----------------------------------------------------------------------------------------------

    def _settle(self, exc: BaseException, outcome: Outcome) -> None:
        """Render an exception of the cell. The interrupt is armed, since this runs the exception's own code."""
        if isinstance(exc, CellEnd) or self._calls.ended:
            return
        if isinstance(exc, MemoryError):
            self._reserve.let_go()
        _restore_interpreter()
        if "<cell 1>" not in linecache.cache:  # `linecache.clearcache()` was called
            linecache.cache.update(self._sources)
        try:
            try:
                outcome.error = self._interrupts.call(display.describe, exc, self._name)
            except KeyboardInterrupt:
                outcome.error = self._interrupts.call(display.describe, exc, self._name)
        except BaseException as why:  # out of memory, out of stack or interrupted twice
            if isinstance(why, MemoryError):
                self._reserve.let_go()
            outcome.error = display.last_resort(exc)
        if isinstance(exc, MemoryError):
            exc.__traceback__ = None
            gc.collect()

    def _show(self, value: Any, outcome: Outcome) -> None:
        """The value as data, and as text for people."""
        try:
            if is_small(value):
                outcome.value, outcome.value_repr = encode_small(value), _repr(value)
                return
        except (MemoryError, ValueError):  # marshal says the second when it has no memory
            self._reserve.let_go()
        outcome.value, outcome.value_error = self._try(self._encode_value, value, "encoding the value")
        if outcome.value_error == _TOO_LATE:  # the interrupt came after the code had ended: its value is not lost
            outcome.value, outcome.value_error = self._try(self._encode_value, value, "encoding the value")
        outcome.value_repr, problem = self._try(_repr_value, value, "repr()")
        if problem is not None:
            outcome.value_repr = f"<{problem}>"

    def _try(self, function: Callable[[Any], Any], value: Any, what: str) -> tuple[Any, str | None]:
        try:
            return self._interrupts.call(function, value), None
        except values.CrossError as exc:
            if isinstance(exc, values.ValueTooLarge):
                self._calls.note_limit(exc.limit, exc.used)
            return None, display.clean(str(exc), MAX_VALUE_ERROR)
        except BaseException as exc:  # a property or `__repr__` of the user
            name = type.__dict__["__name__"].__get__(type(exc))
            return None, display.clean(f"{what} raised {name}", MAX_VALUE_ERROR)

    def _encode_value(self, value: Any) -> bytes:
        return _encode(value, self._guest.tools.limits)


def _is_one_line(source: str) -> bool:
    return "\n" not in source and "\r" not in source


def _repr_value(value: Any) -> str:
    return display.clean(bounded_repr(value, MAX_REPR), MAX_REPR)


def _defer_asyncio_run(function: Any) -> Any:
    """What RUN stands for: the real `asyncio.run` with a coroutine is left to the runner, all else happens at once."""
    if function is not _asyncio_run:
        return function

    def run(main: Any) -> Any:
        if not _is_coroutine(main) or _get_running_loop() is not None:
            return function(main)
        return Deferred(main)

    return run


def _restore_interpreter() -> None:
    """Undo what would make our own code fail."""
    sys.settrace(None)
    sys.setprofile(None)
    if sys.getrecursionlimit() < _LEAST_RECURSION:
        sys.setrecursionlimit(_LEAST_RECURSION)


def _count(tasks: int) -> str:
    return "1 asyncio task" if tasks == 1 else f"{tasks} asyncio tasks"


def _names(tasks: Any) -> str:
    shown = sorted(_task_name(task) for task in tasks)[:10]
    return ", ".join(shown) + (", ..." if len(tasks) > len(shown) else "")


def _task_name(task: asyncio.Task[Any]) -> str:
    coroutine = getattr(task.get_coro(), "__qualname__", "")
    return display.clean(f"{task.get_name()} {coroutine}()" if coroutine else task.get_name(), 100)
