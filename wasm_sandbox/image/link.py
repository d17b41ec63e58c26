"""Pyodide's module becomes ours before anything runs: exceptions re-encoded, shim merged, exports pruned, optimised."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...deno_host.npm import NpmInputs, run_tool
from . import rewrite
from .sources import own_source, sha256_file
from .stages import Result, Stages

ENGINE_EXPORTS = ("memory", "__mut_scratch", "shim_enter", "shim_reply", "shim_buffer")
"""What the engine uses of a baked image."""

BOOT_EXPORTS = (
    "__stack_pointer", "_PyEM_EMSCRIPTEN_TRAMPOLINE_OFFSET", "_PyRuntime", "Py_EMSCRIPTEN_SIGNAL_HANDLING",
    "__wasm_call_ctors", "emscripten_stack_init", "emscripten_stack_get_end", "emscripten_stack_get_base",
    "emscripten_get_sbrk_ptr", "PyThreadState_Get", "PyUnstable_ThreadState_SetStackProtection",
    "malloc", "free", "PyMem_SetAllocator", "PyRun_SimpleString", "PyImport_AddModule", "PyModule_AddFunctions",
    "PyMemoryView_FromMemory", "PyModule_AddObjectRef",
    "PyInitConfig_Create", "PyInitConfig_Free", "PyInitConfig_SetInt", "PyInitConfig_SetStr", "PyInitConfig_SetStrList",
    "PyInitConfig_GetError", "Py_InitializeFromInitConfig",
)  # fmt: skip
"""What boot.py uses besides; gone from a baked image."""

SLOTS = (
    "shim_trampoline", "shim_call", "shim_set_entry",
    "shim_ctx_malloc", "shim_ctx_calloc", "shim_ctx_realloc", "shim_ctx_free",
)  # fmt: skip
"""Shim functions that C code calls by pointer, in the order of their table slots."""

REDIRECTED = {
    "PyObject_Malloc": ("shim_malloc", 1),
    "PyMem_Malloc": ("shim_malloc", 1),
    "PyObject_Free": ("shim_free", 1),
    "PyMem_Free": ("shim_free", 1),
}
"""The four hottest allocator functions call the shim directly; the others reach it through PyMem_SetAllocator."""

# Not --all-features: that writes a format which wasmtime refuses.
_FEATURES = tuple(
    f"--enable-{name}"
    for name in (
        "exception-handling", "reference-types", "bulk-memory", "bulk-memory-opt", "mutable-globals",
        "nontrapping-float-to-int", "sign-ext", "multivalue", "gc",
    )
)  # fmt: skip
# Inlining makes one function so large that compiling it with epoch checks takes a minute, and gains nothing.
_OPTIMISE = ("-O3", "--skip-pass=inlining-optimizing")

_SHIM = Path(__file__).resolve().with_name("shim.wat")


@dataclass(frozen=True, slots=True)
class Linked:
    """The module that boots, and where the shim's functions are in the table."""

    module: Result
    first_slot: int
    tuned: bool = True
    """With our allocator, and optimised. Without, it shows in the bench what these two are worth."""

    def slot(self, name: str) -> int:
        return self.first_slot + SLOTS.index(name)


def link(inputs: NpmInputs, stages: Stages, *, tuned: bool = True) -> Linked:
    """The module that boots, from kept stages where their inputs have not changed. About two minutes from nothing."""
    pyodide = inputs.pyodide("pyodide.asm.wasm")
    exnref = stages.run(
        "exceptions",
        {"module": sha256_file(pyodide), "tool": sha256_file(inputs.binaryen("wasm-opt")), "flags": str(_FEATURES)},
        lambda: _tool(inputs, "wasm-opt", pyodide.read_bytes(), "--emit-exnref"),
    )
    merged = stages.run(
        "shim" if tuned else "shim-untuned",
        {
            "module": exnref.sha256,
            "tools": sha256_file(inputs.binaryen("wasm-as")) + sha256_file(inputs.binaryen("wasm-merge")),
            "code": own_source("link.py", "rewrite.py", "wasm.py", "shim.wat"),
        },
        lambda: _with_shim(inputs, exnref.data, REDIRECTED if tuned else {}),
    )
    first_slot = rewrite.table_size(exnref.data)
    if not tuned:
        return Linked(merged, first_slot, tuned=False)
    optimised = stages.run(
        "optimise",
        {
            "module": merged.sha256,
            "tool": sha256_file(inputs.binaryen("wasm-opt")),
            "flags": str(_FEATURES + _OPTIMISE),
        },
        lambda: _tool(inputs, "wasm-opt", merged.data, *_OPTIMISE),
    )
    return Linked(optimised, first_slot)


def _with_shim(inputs: NpmInputs, module: bytes, redirected: Mapping[str, tuple[str, int]]) -> bytes:
    module = rewrite.drop_got_imports(module)
    with tempfile.TemporaryDirectory(prefix="cloche-link-") as name:
        folder = Path(name)
        (folder / "main.wasm").write_bytes(module)
        (folder / "shim.wat").write_bytes(_SHIM.read_bytes())
        run_tool(inputs, "wasm-as", [*_FEATURES, "shim.wat", "-o", "shim.wasm"], folder)
        names = ["main.wasm", "main", "shim.wasm", "env"]
        run_tool(inputs, "wasm-merge", [*_FEATURES, *names, "--skip-export-conflicts", "-o", "merged.wasm"], folder)
        module = (folder / "merged.wasm").read_bytes()
    module = rewrite.export_mutable_globals(module)
    if redirected:
        module = rewrite.redirect(module, redirected)
    module, _first = rewrite.add_table_slots(module, SLOTS)
    return rewrite.prune_exports(module, ENGINE_EXPORTS + BOOT_EXPORTS, mutable=True)


def _tool(inputs: NpmInputs, tool: str, module: bytes, *arguments: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="cloche-link-") as name:
        folder = Path(name)
        (folder / "in.wasm").write_bytes(module)
        run_tool(inputs, tool, _arguments(arguments), folder)
        return (folder / "out.wasm").read_bytes()


def _arguments(arguments: Sequence[str]) -> list[str]:
    return [*_FEATURES, *arguments, "in.wasm", "-o", "out.wasm"]
