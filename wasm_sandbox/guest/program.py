"""A cell's source as one code object.

Rule: what it does is what a module would do, with two additions: `await` works at the top, and a last statement that is
an expression gives the cell its value. One code object, so a cell with `await` in it is one coroutine. Names that only
the runner may use contain characters that no identifier has.
"""

from __future__ import annotations
import __future__

import ast
from types import CodeType

VALUE = "<value>"
RUN = "<run>"
"""Stands around `asyncio.run` in a last statement; see `Runner`."""

_AWAIT_AT_TOP = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_ONLY_AST = ast.PyCF_ONLY_AST
_CO_COROUTINE = 0x80
_SHORT = 2000
_compile = compile
_FUTURE_FLAGS = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names} - {0x10})
"""All of them; 0x10, of features that are no choice any more, is also the flag for nested functions."""


class Program:
    """A compiled cell."""

    __slots__ = ("code", "is_async", "is_expression", "run_target", "runs_asyncio")

    def __init__(self, code: CodeType, is_expression: bool, runs_asyncio: bool, run_target: str | None) -> None:
        self.code = code
        self.is_expression = is_expression
        """Evaluating the code gives the value; else it is left under the name VALUE."""
        self.is_async = bool(code.co_flags & _CO_COROUTINE)
        self.runs_asyncio = runs_asyncio
        """The last statement is `asyncio.run(...)`, and RUN stands around the function."""
        self.run_target = run_target
        """The name that the last statement assigns the result of `asyncio.run` to."""


class Compiler:
    """Compiles the cells of one sandbox. `from __future__` imports hold from their cell on, as in a console."""

    def __init__(self) -> None:
        self._flags = _AWAIT_AT_TOP

    def compile(self, source: str, filename: str) -> Program:
        """
        Raises:
            SyntaxError: and whatever else `compile` raises for text that is no program.
        """
        program = self._expression(source, filename) or self._statements(source, filename)
        self._flags |= program.code.co_flags & _FUTURE_FLAGS
        return program

    def _expression(self, source: str, filename: str) -> Program | None:
        """The short way for `1 + 1`: no tree, one pass. None: it is more than one expression, or wrong."""
        if len(source) > _SHORT or "\n" in source.rstrip() or "asyncio.run" in source:
            return None
        try:
            return Program(_compile(source, filename, "eval", self._flags, True), True, False, None)
        except (SyntaxError, ValueError):
            return None

    def _statements(self, source: str, filename: str) -> Program:
        tree = _compile(source, filename, "exec", self._flags | _ONLY_AST, True)
        assert isinstance(tree, ast.Module)  # noqa: S101  # what PyCF_ONLY_AST promises, for the type checkers
        runs_asyncio, target = False, None
        if tree.body:
            last = tree.body[-1]
            runs_asyncio, target = _mark_asyncio_run(last)
            if isinstance(last, ast.Expr):
                tree.body[-1] = _assign(last)
        code: CodeType = _compile(tree, filename, "exec", self._flags, True)
        return Program(code, False, runs_asyncio, target)


def _assign(last: ast.Expr) -> ast.Assign:
    name = ast.copy_location(ast.Name(VALUE, ast.Store()), last)
    return ast.copy_location(ast.Assign([name], last.value), last)


def _mark_asyncio_run(last: ast.stmt) -> tuple[bool, str | None]:
    """Put RUN around the function of `asyncio.run(x)` and `name = asyncio.run(x)`. The name to assign to, if any."""
    target = None
    if isinstance(last, ast.Assign) and len(last.targets) == 1 and isinstance(last.targets[0], ast.Name):
        target = last.targets[0].id
    elif not isinstance(last, ast.Expr):
        return False, None
    match last.value:
        case (
            ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="run") as run, args=[_], keywords=[]) as call
        ):
            hook = ast.copy_location(ast.Name(RUN, ast.Load()), run)
            call.func = ast.copy_location(ast.Call(hook, [run], []), run)
            return True, target
        case _:
            return False, None
