"""Server-sent events out of a stream of bytes, however the bytes are cut into pieces.

The rule: an event counts when its empty line has come. What a broken stream leaves behind is never given out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BOM: Final = b"\xef\xbb\xbf"
_LINE_COST: Final = 64
"""What keeping a line costs beside its bytes: a million empty ones are not free."""


class EventTooLong(Exception):
    """One event is longer than allowed."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event. Comments and events without data are not given out."""

    name: bytes
    """Empty where the stream does not say."""
    data: bytes


class SseReader:
    """Feed it pieces as they come. Time and memory are linear in what is fed."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._line: list[bytes] = []
        """Pieces of the line that has not ended yet."""
        self._name = b""
        self._data: list[bytes] = []
        self._pending_bytes = 0
        """Of the event that has not ended yet."""
        self._after_cr = False
        self._at_start = True

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that this piece completes.

        Raises:
            EventTooLong: an event that is longer than allowed, complete or not.
        """
        if self._after_cr and piece.startswith(b"\n"):  # the second half of a CRLF
            piece, self._after_cr = piece[1:], False
        if not piece:
            return []
        self._after_cr = piece.endswith(b"\r")
        *ended, rest = _LINE_END.split(piece)
        events: list[SseEvent] = []
        for line in ended:
            self._add(line)
            if (event := self._end_line()) is not None:
                events.append(event)
        self._add(rest)
        return events

    def _add(self, part: bytes) -> None:
        self._pending_bytes += len(part)
        if self._pending_bytes > self._max_event_bytes:
            raise EventTooLong
        if part:
            self._line.append(part)

    def _end_line(self) -> SseEvent | None:
        line = b"".join(self._line)
        self._line.clear()
        if self._at_start:
            line, self._at_start = line.removeprefix(_BOM), False
        if not line:
            return self._end_event()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._pending_bytes += _LINE_COST
        elif field == b"event":
            self._name = value
        else:
            self._pending_bytes -= len(line)  # a comment, such as a keep-alive, or a field that says nothing here
        return None

    def _end_event(self) -> SseEvent | None:
        name, data = self._name, b"\n".join(self._data)
        self._name, self._data, self._pending_bytes = b"", [], 0
        return SseEvent(name, data) if data else None
