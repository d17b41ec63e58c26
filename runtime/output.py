"""What a cell prints and the files it leaves, taken from hostile bytes into bounded host data.

The rule: after the cap a byte is only counted. What is lost is never lost silently: a mark stands in the text, and the
cell says `output_cut`.
"""

from __future__ import annotations

import codecs
import functools
import io
import re
import unicodedata
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Literal, TypeAlias

from . import lazy
from .cell import Artifact

if TYPE_CHECKING:
    import hashlib
    import mimetypes
else:
    hashlib = lazy.module("hashlib")
    mimetypes = lazy.module("mimetypes")

Stream: TypeAlias = Literal["stdout", "stderr"]
OnOutput: TypeAlias = Callable[[Stream, str], object]
"""Called with each piece of text as it arrives, on the thread that serves the sandbox."""

MAX_NAME_BYTES = 200
"""File systems take 255; the rest is for a number that makes the name unique."""


class OutputCollector:
    """stdout and stderr of one cell. One thread adds; any thread may read."""

    def __init__(self, limit_bytes: int, on_output: OnOutput | None, context: Context | None = None) -> None:
        """`context`: what `on_output` sees; None: that of the thread which adds."""
        self._limit_bytes = limit_bytes
        self._left = limit_bytes
        self._on_output = on_output
        # A context object cannot be entered twice at once, and the tools are given theirs.
        self._context = None if on_output is None or context is None else context.copy()
        self._texts: dict[Stream, io.StringIO] = {}
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {}
        self.total_bytes = 0
        """Bytes that the guest sent, cut ones included."""
        self.callback_error: BaseException | None = None
        """What `on_output` raised the first time; it was not called again."""

    @property
    def cut(self) -> bool:
        return self.total_bytes > self._limit_bytes

    def add(self, stream: Stream, data: bytes | memoryview) -> None:
        """Take what arrived, as far as the cap allows."""
        was_cut = self.cut
        self.total_bytes += len(data)
        if was_cut:
            return
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = _Utf8(errors="replace")
        text = decoder.decode(data[: self._left])
        self._left -= min(len(data), self._left)
        if self.cut:
            text += f"\n[output cut: more than {self._limit_bytes} bytes]\n"
        self._write(stream, text)

    def finish(self) -> None:
        """The cell is over: half a character at the end becomes U+FFFD, unless it was cut there."""
        if self._decoders and not self.cut:
            for stream, decoder in self._decoders.items():
                self._write(stream, decoder.decode(b"", final=True))

    def text(self, stream: Stream) -> str:
        """What has arrived so far."""
        text = self._texts.get(stream)
        return "" if text is None else text.getvalue()

    def _write(self, stream: Stream, text: str) -> None:
        if not text:
            return
        known = self._texts.get(stream)
        if known is None:
            known = self._texts[stream] = io.StringIO()
        known.write(text)
        if self._on_output is not None:
            try:
                if self._context is None:
                    self._on_output(stream, text)
                else:
                    self._context.run(self._on_output, stream, text)
            except BaseException as exc:  # noqa: BLE001  # the caller's own; raised to them when the cell is over
                self.callback_error = exc
                self._on_output = None


_Utf8 = codecs.getincrementaldecoder("utf-8")


# --- artifacts --------------------------------------------------------------------------------------------------------

_MORE_TYPES = {
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".toml": "application/toml",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
}
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def collect_artifacts(files: Iterable[tuple[str, bytes]]) -> tuple[Artifact, ...]:
    """Artifacts from the guest's paths and bytes, in that order."""
    taken: set[str] = set()
    found: list[Artifact] = []
    for path, data in files:
        name = _unique(safe_name(path), taken)
        digest = hashlib.sha256(data).hexdigest()
        shown = escape_controls(path).replace("\n", "\\n").replace("\t", "\\t")  # one line, wherever it is logged
        found.append(Artifact(name=name, path=shown, mime=_mime(name), data=data, sha256=digest))
    return tuple(found)


def safe_name(path: str) -> str:
    """One path component that any file system takes and no shell or device reads in its own way."""
    base = unicodedata.normalize("NFKC", path.replace("\\", "/").rsplit("/", 1)[-1])
    name = re.sub(r"[^\w.-]+", "_", base).strip("._-")
    if _WINDOWS_DEVICES.fullmatch(name):
        name = f"file_{name}"
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    if len(ending) > 16:
        stem, dot, ending = f"{stem}_{ending}", "", ""
    room = MAX_NAME_BYTES - len((dot + ending).encode("utf-8"))
    stem = stem.encode("utf-8")[:room].decode("utf-8", errors="ignore")
    return f"{stem or 'file'}{dot}{ending}"


def _unique(name: str, taken: set[str]) -> str:
    """The name, numbered where a file system that ignores case would take it for another."""
    stem, dot, ending = name.rpartition(".") if "." in name else (name, "", "")
    candidate, number = name, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{stem}-{number}{dot}{ending}"
    taken.add(candidate.casefold())
    return candidate


@functools.cache
def _types() -> mimetypes.MimeTypes:
    """The standard library's own table; the machine's files are not in it, so that a name means the same everywhere."""
    table = mimetypes.MimeTypes()
    for ending, kind in _MORE_TYPES.items():
        table.add_type(kind, ending)
    return table


def _mime(name: str) -> str:
    kind, encoding = _types().guess_type(name)
    return _COMPRESSED.get(encoding, "application/octet-stream") if encoding else kind or "application/octet-stream"


def escape_controls(text: str) -> str:
    """The text with control, format and surrogate characters written as escapes; newline and tab stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in "\n\t" or not _hidden(char) else ascii(char)[1:-1] for char in text)


def _hidden(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
