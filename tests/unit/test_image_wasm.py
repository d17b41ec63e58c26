"""The editor of wasm binaries, the rewrites and the bake, checked by running what comes out."""

from __future__ import annotations

import pytest
import wasmtime

from cloche.wasm_sandbox.image import bake, rewrite, wasm

PROGRAM = """
(module
 (import "GOT.func" "glClear" (global $got (mut i32)))
 (import "host" "twice" (func $twice (param i32) (result i32)))
 (memory (export "memory") 2)
 (table (export "table") 3 funcref)
 (global $sp (mut i32) (i32.const 1000))
 (global $where i32 (i32.const 4096))
 (export "where" (global $where))
 (type $unary (func (param i32) (result i32)))
 (func $slow (export "slow") (type $unary) (i32.add (local.get 0) (i32.const 1)))
 (func $fast (export "fast") (type $unary) (call $twice (local.get 0)))
 (func (export "got") (result i32) (global.get $got))
 (func (export "push") (param i32) (global.set $sp (i32.sub (global.get $sp) (local.get 0))))
 (func (export "sp") (result i32) (global.get $sp))
 (func (export "indirect") (param i32 i32) (result i32) (call_indirect (type $unary) (local.get 1) (local.get 0)))
 (elem (i32.const 0) $slow)
 (data (i32.const 4096) "first")
)
"""


def module() -> bytes:
    return bytes(wasmtime.wat2wasm(PROGRAM))


def _twice(value: int) -> int:
    return value * 2


class Running:
    """A module that runs, with a host that doubles."""

    def __init__(self, code: bytes) -> None:
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        loaded = wasmtime.Module(engine, code)
        kind = wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()])
        twice = wasmtime.Func(self.store, kind, _twice)
        self.exports = wasmtime.Instance(self.store, loaded, [twice]).exports(self.store)

    def call(self, name: str, *arguments: int) -> int:
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        return int(function(self.store, *arguments) or 0)

    @property
    def memory(self) -> wasmtime.Memory:
        found = self.exports["memory"]
        assert isinstance(found, wasmtime.Memory)
        return found


@pytest.mark.parametrize("value", [0, 1, 63, 64, 127, 128, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_numbers_and_constants_survive_a_round_trip(value: int) -> None:
    assert wasm.read_leb(wasm.leb(value), 0) == (value, len(wasm.leb(value)))
    assert wasm.read_i32_const(wasm.i32_const(value)) == value


def test_a_module_that_is_only_parsed_and_built_is_unchanged() -> None:
    code = module()
    assert wasm.build(wasm.parse(code)) == code


def test_a_cut_module_is_an_error_of_ours_at_every_length() -> None:
    code = module()
    ends = {8}
    at = 8
    for section in wasm.parse(code):
        at += 1 + len(wasm.leb(len(section.body))) + len(section.body)
        ends.add(at)
    for length in range(len(code)):
        if length in ends:
            continue  # whole sections: shorter, but well formed
        with pytest.raises(wasm.WasmError):
            wasm.parse(code[:length])


def test_got_imports_become_constants_and_every_global_keeps_its_number() -> None:
    running = Running(rewrite.drop_got_imports(module()))
    assert running.call("got") == 0
    running.call("push", 8)
    assert running.call("sp") == 992


def test_another_imported_global_is_refused() -> None:
    code = bytes(wasmtime.wat2wasm('(module (import "env" "base" (global i32)) (global i32 (i32.const 0)))'))
    with pytest.raises(wasm.WasmError, match=r"unexpected global import env\.base"):
        rewrite.drop_got_imports(code)


def test_a_redirected_function_calls_the_other_one() -> None:
    code = rewrite.redirect(rewrite.drop_got_imports(module()), {"slow": ("fast", 1)})
    assert Running(code).call("slow", 21) == 42


def test_added_table_slots_can_be_called_by_pointer() -> None:
    code = rewrite.drop_got_imports(module())
    assert rewrite.table_size(code) == 3
    code, first = rewrite.add_table_slots(code, ["fast", "slow"])
    running = Running(code)
    assert first == 3
    assert running.call("indirect", 3, 5) == 10
    assert running.call("indirect", 4, 5) == 6
    assert running.call("indirect", 0, 5) == 6


def test_pruning_keeps_the_named_exports_and_asks_for_missing_ones() -> None:
    code = rewrite.export_mutable_globals(rewrite.drop_got_imports(module()))
    names = rewrite.mutable_globals(code)
    kept = rewrite.prune_exports(code, ["memory", "sp"], mutable=True)
    assert set(wasm.exports(wasm.parse(kept))) == {"memory", "sp", *names}
    assert set(wasm.exports(wasm.parse(rewrite.prune_exports(code, ["sp"], mutable=False)))) == {"sp"}
    with pytest.raises(wasm.WasmError, match="does not export absent"):
        rewrite.prune_exports(code, ["absent"], mutable=True)


def test_a_baked_module_goes_on_where_the_snapshot_was_taken() -> None:
    code = rewrite.export_mutable_globals(rewrite.drop_got_imports(module()))
    names = rewrite.mutable_globals(code)
    running = Running(code)
    running.call("push", 16)
    running.memory.grow(running.store, 1)
    running.memory.write(running.store, b"late", 2 * bake.PAGE + 100)
    values: dict[int, int] = {}
    for name, number in names.items():
        found = running.exports[name]
        assert isinstance(found, wasmtime.Global)
        values[number] = int(found.value(running.store))
    memory = bytes(running.memory.read(running.store, 0, running.memory.data_len(running.store)))
    again = Running(bake.bake(code, memory, values))
    assert again.call("sp") == 984
    assert again.memory.read(again.store, 4096, 4101) == b"first"
    assert again.memory.read(again.store, 2 * bake.PAGE + 100, 2 * bake.PAGE + 104) == b"late"
    assert again.memory.data_len(again.store) == 3 * bake.PAGE


def test_a_baked_module_has_no_segment_for_zero_pages_and_no_foreign_custom_section() -> None:
    sections = wasm.parse(rewrite.drop_got_imports(module()))
    code = wasm.build([*sections, wasm.custom("name", b"secret build path")])
    memory = bytearray(40 * bake.PAGE)
    memory[5 * bake.PAGE] = memory[30 * bake.PAGE] = 7
    baked = bake.bake(code, memory, {})
    assert b"secret build path" not in baked
    count, _ = wasm.read_leb(wasm.section_body(wasm.parse(baked), wasm.DATA), 0)
    assert count == 2
    assert len(baked) < 2 * bake.PAGE
