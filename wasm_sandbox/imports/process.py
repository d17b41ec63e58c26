"""The guest as a process: its end, environment, randomness, messages of its C library. No second process, no timer."""

from __future__ import annotations

from .. import errno
from .contract import Box, Import, constant, signed, syscall, wasi

MAX_RANDOM_BYTES = 64 * 1024
"""Bytes of one `random_get`; the C library asks for 256 at most."""
MAX_MESSAGE_BYTES = 4096
ABORT_CODE = 134


def proc_exit(box: Box, code: int) -> None:
    box.exit(signed(code))


def abort(box: Box) -> None:
    box.exit(ABORT_CODE, "abort()")


def assert_fail(box: Box, condition: int, file: int, line: int, _function: int) -> None:
    where = f"{_text(box, condition)} at {_text(box, file)}:{line}" if condition and file else "unknown"
    box.exit(ABORT_CODE, f"assertion failed: {where}")


def log(box: Box, _flags: int, message: int) -> None:
    log_line(box, message)


def log_line(box: Box, message: int) -> None:
    box.files.raw_output(2, box.memory.cstr(message, MAX_MESSAGE_BYTES) + b"\n")


def environ_sizes_get(box: Box, count: int, size: int) -> int:
    lines = _environ_lines(box)
    box.memory.set_u32(count, len(lines))
    box.memory.set_u32(size, sum(map(len, lines)))
    return 0


def environ_get(box: Box, pointers: int, buffer: int) -> int:
    for index, line in enumerate(_environ_lines(box)):
        box.memory.set_u32(pointers + 4 * index, buffer)
        box.memory.write(buffer, line)
        buffer += len(line)
    return 0


def random_get(box: Box, buffer: int, size: int) -> int:
    if size > MAX_RANDOM_BYTES:
        return errno.EINVAL
    box.memory.write(buffer, box.world.random(size))
    return 0


def get_progname(box: Box, buffer: int, size: int) -> None:
    if size:
        box.memory.write(buffer, b"python"[: size - 1] + b"\0")


def set_timer(_box: Box, _which: int, timeout_ms: float) -> int:
    return -1 if timeout_ms else 0


def system(_box: Box, command: int) -> int:
    return -errno.ENOSYS if command else 0


def _environ_lines(box: Box) -> list[bytes]:
    return [name + b"=" + value + b"\0" for name, value in box.world.environ.items()]


def _text(box: Box, pointer: int) -> str:
    return box.memory.cstr(pointer, MAX_MESSAGE_BYTES).decode("utf-8", "replace")[:200]


IMPORTS: dict[str, Import] = {
    "proc_exit": Import(proc_exit, "real", "ends the instance"),
    "exit": Import(proc_exit, "real", "ends the instance"),
    "_abort_js": Import(abort, "real", "ends the instance"),
    "__assert_fail": Import(assert_fail, "real", "ends the instance, with the text of the assertion"),
    "environ_sizes_get": wasi(environ_sizes_get, "real", "the world's environment, nothing of the host's"),
    "environ_get": wasi(environ_get, "real", "the world's environment, nothing of the host's"),
    "random_get": wasi(random_get, "real", "keyed generator of the world; at most 64 KiB per call"),
    "_emscripten_get_progname": Import(get_progname, "real", "always `python`"),
    "_emscripten_log_formatted": Import(log, "real", "to the capped raw stderr, 4 KiB per message"),
    "emscripten_log_impl_js": Import(log_line, "real", "to the capped raw stderr, 4 KiB per message"),
    "emscripten_debugger": constant(0, "benign", "no debugger is attached"),
    "__call_sighandler": constant(
        0, "real", "calls the handler that the guest's own `raise` found; answered in the shim"
    ),
    "_setitimer_js": Import(set_timer, "errno", "-1 when armed: nothing could run at that time; 0 when cleared"),
    "_emscripten_system": syscall(system, "errno", "ENOSYS; 0 to the question whether there is a shell"),
    "_dlopen_js": constant(0, "errno", "null: native code is linked when the image is built, never loaded"),
    "_dlsym_js": constant(0, "errno", "null: nothing can be loaded"),
    "ffi_closure_alloc_js": constant(0, "errno", "null: ctypes callbacks would need new functions at run time"),
    "_emscripten_runtime_keepalive_clear": constant(
        0, "benign", "the instance's life is the host's affair; answered in the shim"
    ),
    "emscripten_runtime_keepalive_push": constant(
        0, "benign", "the instance's life is the host's affair; answered in the shim"
    ),
    "emscripten_runtime_keepalive_pop": constant(
        0, "benign", "the instance's life is the host's affair; answered in the shim"
    ),
    "_Py_emscripten_runtime": constant(0, "benign", "null: no browser or Node.js to name; answered in the shim"),
    "_Py_CheckEmscriptenSignals_Helper": constant(
        0, "benign", "the shim reads the interrupt flag; without a shim no signal"
    ),
    "__syscall_getuid32_js": constant(0, "benign", "one user, number 0; answered in the shim"),
}
