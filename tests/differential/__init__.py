"""The same programs on both engines and on a native CPython."""
