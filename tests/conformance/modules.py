"""Which of CPython's test modules run in the guest, and which files each needs from the host's `test` package.

Rule: what is left out stands here with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Module:
    """One sandbox's work."""

    name: str
    parts: tuple[str, ...] = ()
    """Modules to load instead of `test.<name>`, below it."""
    data: tuple[str, ...] = ()
    """Files and folders beside the module that it reads or imports."""
    library: tuple[str, ...] = ()
    """What it needs of the host's standard library, because Pyodide leaves it out."""
    loops: bool = False
    """It asks for sockets where an event loop is enough."""
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    """Test (or class, or module) to the reason why it does not run at all."""

    @property
    def label(self) -> str:
        """What reports call it."""
        return ".".join((self.name, *self.parts)) if len(self.parts) == 1 else self.name

    @property
    def imports(self) -> list[str]:
        """Dotted names to load."""
        return [f"test.{self.name}.{part}" for part in self.parts] or [f"test.{self.name}"]


_PLAIN = """
test_int test_long test_float test_complex test_bool test_list test_tuple test_dict test_set test_bytes test_str
test_slice test_range test_enumerate test_generators test_genexps test_listcomps test_itertools test_collections
test_deque test_ordered_dict test_struct test_array test_memoryview test_weakref test_weakset test_gc test_descr
test_class test_exceptions test_exception_group test_scope test_format test_fstring test_string test_sort test_hash
test_iter test_isinstance test_super test_property test_userdict test_userlist test_contains test_compare
test_unpack test_raise test_with test_coroutines test_asyncgen test_patma test_call test_grammar test_string_literals
test_datetime test_decimal test_fractions test_math test_cmath test_random test_hashlib test_zlib
test_heapq test_bisect test_functools test_operator test_copy test_pickle test_io test_memoryio
test_os test_posixpath test_glob test_tempfile test_time test_contextlib test_contextlib_async test_enum
test_typing test_unicodedata test_csv test_statistics test_binascii test_base64 test_codecs test_textwrap test_uuid
test_secrets test_signal test_re
"""

_JSON = """
decode default dump encode_basestring_ascii enum fail float indent pass1 pass2 pass3 recursion scanstring separators
speedups unicode
"""
_SQLITE = "backup dbapi dump factory hooks regression transactions types userfunctions"
_ASYNCIO = """
base_events context eager_task_factory futures futures2 locks pep492 protocols queues runners staggered taskgroups tasks
timeouts transports waitfor
"""

_DATA: dict[str, tuple[str, ...]] = {
    "test_int": ("test_grammar.py", "typinganndata"),
    "test_float": ("test_grammar.py", "typinganndata", "mathdata"),
    "test_complex": ("test_grammar.py", "typinganndata", "mathdata"),
    "test_math": ("mathdata", "test_iter.py"),
    "test_cmath": ("test_math.py", "mathdata"),
    "test_fractions": ("mathdata",),
    "test_decimal": ("decimaltestdata",),
    "test_typing": ("typinganndata",),
    "test_grammar": ("typinganndata",),
    "test_random": ("randv2_32.pck", "randv2_64.pck", "randv3.pck"),
    "test_posixpath": ("test_genericpath.py",),
    "test_contextlib": ("data", "archivetestdata"),
    "test_contextlib_async": ("test_contextlib.py", "data"),
}
_LIBRARY: dict[str, tuple[str, ...]] = {"test_decimal": ("_pydecimal.py",), "test_pickle": ("dbm",)}
_LOOPS = {"test_asyncgen", "test_coroutines", "test_contextlib_async"}

LEFT_OUT: dict[str, str] = {
    "test_pathlib": "the tests of 3.13 import `pathlib._abc`, which 3.14 has no more; test_os and test_glob stand in",
    "test_asyncio.test_subprocess, test_unix_events, test_sslproto, test_server, test_streams": "sockets or processes",
    "test_threading, test_queue, test_concurrent_futures, test_multiprocessing_*": "a guest has one thread and process",
    "test_socket, test_ssl, test_http*, test_urllib*": "a guest has no network",
    "test_types": "it imports extension modules that exist for tests only",
    "test_ctypes": "a guest calls no native code",
}
"""Modules of interest that are not in MODULES."""

_ENDLESS = {
    "test.test_asyncio.test_runners.RunnerTests.test_run_future": "3.14 awaits a future here, on mocks for ever",
    "test.test_asyncio.test_tasks.RunCoroutineThreadsafeTests": "waits for ever for a second thread",
}

_DEEP = "150 000 nested objects take no stack that CPython's guard sees (docs/limits.md): "
_TOO_DEEP: dict[str, dict[str, str]] = {
    "test_exception_group": {
        f"test.test_exception_group.DeepRecursionInSplitAndSubgroup.{name}": _DEEP + "freeing them ends the sandbox"
        for name in ("test_deep_split", "test_deep_subgroup")
    },
    "test_userlist": {"test.test_userlist.UserListTest.test_repr_deep": _DEEP + "freeing them ends the sandbox"},
    "test_isinstance": {
        f"test.test_isinstance.TestIsInstanceIsSubclass.{name}": _DEEP + "the test takes hours"
        for name in ("test_isinstance_recursion_limit", "test_subclass_recursion_limit")
    },
}


def _parts(names: str) -> tuple[str, ...]:
    return tuple(f"test_{name}" for name in names.split())


MODULES: tuple[Module, ...] = (
    *(
        Module(
            name,
            data=_DATA.get(name, ()),
            library=_LIBRARY.get(name, ()),
            loops=name in _LOOPS,
            left_out=_TOO_DEEP.get(name, {}),
        )
        for name in _PLAIN.split()
    ),
    Module("test_json", parts=_parts(_JSON)),
    Module("test_sqlite3", parts=_parts(_SQLITE)),
    *(
        Module("test_asyncio", parts=(part,), data=("certdata",), loops=True, left_out=_ENDLESS)
        for part in _parts(_ASYNCIO)
    ),
    Module("test_dataclasses"),
)
