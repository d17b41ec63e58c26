"""The value codec: the closed set of data that crosses between host and guest, with exact round trips.

One source for both sides: the host imports it as `cloche.runtime.values`, the image bakes this file and the four
`value_*.py` in for the guest. So they need nothing but the standard library and import nothing else of ours.

A value is bytes: one format byte, then
* PLAIN: None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset in the layout of `marshal` version 2,
  which CPython writes in C. The guest side may read it with `marshal`, because the host wrote it; the host never does:
  the decoder builds nothing outside the set and counts before it builds.
* EXTENDED: the same layout, with the tags of `_EXTENDED` for the datetime family and Decimal.

No tag names a type, a module or an attribute. Both directions charge the same price for a value, so what one side may
send the other may read.
"""

from __future__ import annotations

from .value_decoder import decode, decode_counted
from .value_encoder import encode
from .value_types import EXTENDED, PLAIN, BadValue, CrossError, ValueLimits, ValueTooLarge

__all__ = [
    "EXTENDED",
    "PLAIN",
    "BadValue",
    "CrossError",
    "ValueLimits",
    "ValueTooLarge",
    "decode",
    "decode_counted",
    "encode",
]
