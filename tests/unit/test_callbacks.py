"""The layer between wasm and host imports, on small hand-written modules."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import wasmtime

from cloche.wasm_sandbox.callbacks import Linker
from cloche.wasm_sandbox.engine import Exports
from cloche.wasm_sandbox.instance import GuestExit, Instance, Trapped
from cloche.wasm_sandbox.memory import MemoryFault
from cloche.wasm_sandbox.native import THREAD_STACK_BYTES, NativeEngine

MODULE = """(module
  (import "env" "take" (func $take (param i32 i64 f64) (result i32)))
  (import "env" "unknown" (func $unknown))
  (memory (export "memory") 1 4)
  (func (export "take") (result i32) (call $take (i32.const -1) (i64.const -2) (f64.const 1.5)))
  (func (export "unknown") (result i32) (call $unknown) (i32.const 0))
  (func (export "spin") (result i32) (loop $again (br $again)) (i32.const 0))
  (func $deep (export "deep") (result i32) (call $deep))
)"""


@dataclass
class Entry:
    handler: Callable[..., int | float | None]
    fault: int = -21


@dataclass
class Bench:
    """A small module with one import, and instances of it."""

    tmp_path: Path
    epochs: bool = False
    handler: Callable[..., Any] = field(default=lambda *_args: 0)

    def __post_init__(self) -> None:
        native = NativeEngine(epochs=self.epochs)
        path = self.tmp_path / "m.cwasm"
        path.write_bytes(native.compile(bytes(wasmtime.wat2wasm(MODULE))))
        self.native = native
        self.module = native.load(path)
        self.linker = Linker(self.module, {"take": Entry(lambda *args: self.handler(*args))})

    def instance(self, memory_bytes: int = 1 << 20) -> Instance:
        engine = SimpleNamespace(native=self.native, epochs=self.epochs, exports=Exports())
        return Instance(cast(Any, engine), self.linker, cast(Any, None), cast(Any, None), memory_bytes)


def on_big_stack(action: Callable[[], object]) -> None:
    """Run on a thread that may enter wasm; re-raise what it raised."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as exc:  # noqa: BLE001  # handed to the test's thread
            caught.append(exc)

    before = threading.stack_size(THREAD_STACK_BYTES)
    thread = threading.Thread(target=run)
    thread.start()
    threading.stack_size(before)
    thread.join(20)
    assert not thread.is_alive()
    if caught:
        raise caught[0]


def test_arguments_arrive_unsigned_and_results_return(tmp_path: Path) -> None:
    seen: list[tuple[object, ...]] = []

    def handler(_instance: Instance, *args: object) -> int:
        seen.append(args)
        return -7

    bench = Bench(tmp_path, handler=handler)
    with_instance = bench.instance()
    assert with_instance.call("take") == 0xFFFFFFF9
    assert seen == [(0xFFFFFFFF, -2, 1.5)]


def test_memory_fault_becomes_the_errno_of_the_import(tmp_path: Path) -> None:
    def handler(instance: Instance, *_args: object) -> int:
        return len(instance.memory.read(0xFFFFFFF0, 64))

    assert Bench(tmp_path, handler=handler).instance().call("take") == 0xFFFFFFFF & -21


def test_exception_of_a_handler_ends_only_its_instance(tmp_path: Path) -> None:
    def handler(instance: Instance, *_args: object) -> int:
        raise ZeroDivisionError("bug in a handler")

    bench = Bench(tmp_path, handler=handler)
    lost, other = bench.instance(), bench.instance()
    with pytest.raises(ZeroDivisionError, match="bug in a handler"):
        lost.call("take")
    with pytest.raises(Trapped, match="the instance is lost"):
        lost.call("take")
    bench.handler = lambda *_args: 5
    assert other.call("take") == 5


def test_result_of_a_wrong_type_is_a_recorded_fault_too(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Bench(tmp_path, handler=lambda *_args: None).instance().call("take")


def test_exit_reaches_the_caller_with_its_code(tmp_path: Path) -> None:
    def handler(_instance: Instance, *_args: object) -> int:
        raise GuestExit(3)

    with pytest.raises(Trapped) as caught:
        Bench(tmp_path, handler=handler).instance().call("take")
    assert caught.value.exit_code == 3


def test_import_outside_the_tables_traps(tmp_path: Path) -> None:
    with pytest.raises(Trapped, match="unknown"):
        Bench(tmp_path).instance().call("unknown")


def test_stack_overflow_is_a_trap_and_the_host_lives_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Trapped, match="call stack exhausted"):
        on_big_stack(lambda: bench.instance().call("deep"))
    assert bench.instance().call("take") == 0


def test_request_trap_stops_only_the_instance_that_was_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, epochs=True)
    stopped, other = bench.instance(), bench.instance()
    entered = threading.Event()
    outcomes: dict[str, BaseException] = {}

    def spin(name: str, instance: Instance) -> None:
        entered.set()
        try:
            instance.call("spin")
        except Trapped as exc:
            outcomes[name] = exc

    threads = [threading.Thread(target=spin, args=pair) for pair in (("stopped", stopped), ("other", other))]
    for thread in threads:
        thread.start()
    assert entered.wait(30)
    assert stopped.request_trap()
    threads[0].join(30)
    assert str(outcomes["stopped"]) == "stopped by the host"
    assert threads[1].is_alive()
    other.request_trap()
    threads[1].join(30)
    assert not threads[1].is_alive()


def test_instances_on_many_threads_never_see_each_others_calls(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    seen: dict[int, list[Instance]] = {}

    def handler(instance: Instance, *_args: object) -> int:
        seen.setdefault(threading.get_ident(), []).append(instance)
        return 0

    bench.handler = handler
    instances = [bench.instance() for _ in range(8)]
    together = threading.Barrier(8)

    def work(instance: Instance) -> None:
        together.wait(10)
        for _ in range(200):
            instance.call("take")

    threads = [threading.Thread(target=work, args=(instance,)) for instance in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [len(calls) for calls in seen.values()] == [200] * 8
    assert all(len(set(map(id, calls))) == 1 for calls in seen.values())


def test_memory_grows_to_the_limit_and_not_over_it(tmp_path: Path) -> None:
    instance = Bench(tmp_path).instance(memory_bytes=3 * 65536)
    assert instance.grow_memory(2 * 65536)
    assert instance.memory_bytes == 2 * 65536
    assert not instance.grow_memory(3 * 65536 + 1)
    instance.memory.write(2 * 65536 - 1, b"x")
    with pytest.raises(MemoryFault):
        instance.memory.write(2 * 65536, b"x")


def test_closed_instance_ignores_interrupts_and_refuses_calls(tmp_path: Path) -> None:
    instance = Bench(tmp_path).instance()
    instance.close()
    instance.close()
    instance.interrupt()
    with pytest.raises(Trapped):
        instance.call("take")
    with pytest.raises(MemoryFault):
        instance.memory.read(0, 1)
