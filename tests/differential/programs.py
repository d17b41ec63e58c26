"""Programs that Hypothesis writes: whole functions of ordinary Python, each with a result, output, or an exception.

The rule: a program says the same wherever it runs correctly. So nothing in it depends on the hash of a string, on an
address, on a clock or on chance; and no number in it grows without a bound.
"""

from __future__ import annotations

from hypothesis import strategies as st

NAMES = ("a", "b", "c")
_literals = st.one_of(
    st.integers(-(10**6), 10**6).map(repr),
    st.integers(2**62, 2**66).map(repr),
    st.floats(allow_nan=True, allow_infinity=False, width=64).map(lambda x: repr(x) if x == x else "float('nan')"),
    st.text(alphabet="abcXYZ 019äß€\U0001f600\n'\"\\", max_size=12).map(repr),
    st.binary(max_size=6).map(repr),
    st.sampled_from(["None", "True", "False", "()", "[]", "{}", "1j", "...", "range(5)", "frozenset((1, 2))"]),
)
_UNARY = ("-{}", "+{}", "~{}", "not {}", "len({})", "abs({})", "repr({})", "str({})", "bool({})", "int({})", "float({})",
          "list({})", "tuple({})", "sum({})", "min({})", "max({})", "sorted({})", "any({})", "iter({}).__next__()",
          "type({}).__name__", "hex({})", "ord({})", "chr({} % 1000)", "math.sqrt({})", "math.floor({})", "round({}, 2)",
          "json.dumps({})", "json.loads({})", "{}.upper()", "{}.split()", "{}.encode()", "{}.hex()", "{}.items()",
          "{}[0]", "{}[-1]", "{}[::-1]", "{}.missing", "{}()", "re.findall('[a-z]+', {})", "Decimal({})",
          "Fraction({})", "hash(({}, 1)) and 0", "collections.Counter({}).most_common(1)", "f'{{{}!r:>12}}'",
          "'%s' % ({},)", "enumerate({}).__next__()", "[x for x in {}]", "{{x: 1 for x in {}}}",
          "functools.reduce(lambda p, q: q, {})", "struct.pack('<i', {})", "textwrap.fill({}, 8)", "bytes({} % 9)",
          "datetime.timedelta(seconds={} % 10**6)", "int.from_bytes({}, 'big')", "base64.b64encode({})",
          "unicodedata.normalize('NFD', {})", "statistics.mean({})", "operator.itemgetter(0)({})")  # fmt: skip
_BINARY = ("{} + {}", "{} - {}", "{} * ({} % 5)", "{} / {}", "{} // {}", "{} % {}", "{} ** ({} % 4)", "{} == {}",
           "{} < {}", "{} in {}", "{} is None or {}", "{} and {}", "{} or {}", "{} & {}", "{} | {}", "{} ^ {}",
           "{} << ({} % 70)", "{} >> ({} % 70)", "[{}, {}]", "({}, {})", "{{'k': {}, 'l': {}}}", "divmod({}, {})",
           "getattr({}, 'real', {})", "{}.join([{}])", "{} if {} else 0", "dict([({}, {})])", "pow({}, {} % 6)",
           "{}[{}]", "{}.count({})", "zip({}, {}).__next__()", "isinstance({}, type({}))")  # fmt: skip


def _fill(template: str, parts: tuple[str, ...]) -> str:
    return template.format(*(f"({part})" for part in parts))


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.builds(lambda template, part: _fill(template, (part,)), st.sampled_from(_UNARY), inner)
    two = st.builds(lambda template, *parts: _fill(template, parts), st.sampled_from(_BINARY), inner, inner)
    return st.one_of(one, two)


expressions = st.recursive(st.one_of(_literals, st.sampled_from(NAMES)), _grown, max_leaves=6)


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


_assignments = st.builds(lambda name, value: [f"{name} = {value}"], st.sampled_from(NAMES), expressions)
_prints = st.builds(lambda value: [f"print({value})"], expressions)
_updates = st.builds(lambda name, value: [f"{name} += {value}"], st.sampled_from(NAMES), expressions)
_simple = st.one_of(_assignments, _prints, _updates)
_blocks = st.lists(_simple, min_size=1, max_size=3).map(lambda found: [line for lines in found for line in lines])
_branches = st.builds(
    lambda test, yes, no: [f"if {test}:", *_indented(yes), "else:", *_indented(no)], expressions, _blocks, _blocks
)
_loops = st.builds(
    lambda values, body: [f"for a in itertools.islice(iter({values}), 4):", *_indented(body)], expressions, _blocks
)
_tries = st.builds(
    lambda body, kind, last: [
        "try:",
        *_indented(body),
        f"except {kind} as error:",
        "    print(type(error).__name__)",
        "finally:",
        *_indented(last),
    ],
    _blocks,
    st.sampled_from(["Exception", "TypeError", "(ValueError, LookupError)", "ArithmeticError"]),
    _blocks,
)
_functions = st.builds(
    lambda body, value: [
        "def inner(a, b=2, *c):",
        *_indented(body),
        f"    return {value}",
        "a = inner(a)",
    ],
    _blocks,
    expressions,
)
_classes = st.builds(
    lambda value: [
        "@dataclasses.dataclass(order=True)",
        "class Point:",
        "    x: object",
        "    def __len__(self): return self.x % 7",
        f"b = Point({value})",
        "print(b, b == Point(b.x), bool(b))",
    ],
    expressions,
)
_generators = st.builds(
    lambda value: [
        "def steps():",
        f"    got = yield {value}",
        "    yield got",
        "c = steps()",
        "print(next(c), c.send(1))",
    ],
    expressions,
)
_matches = st.builds(
    lambda value: [
        f"match {value}:",
        "    case [first, *_]: print('list', first)",
        "    case {'k': found}: print('dict', found)",
        "    case int() | float() as number: print('number', number)",
        "    case str(): print('text')",
        "    case _: print('else')",
    ],
    expressions,
)
_statements = st.one_of(_simple, _simple, _branches, _loops, _tries, _functions, _classes, _generators, _matches)

IMPORTS = ("import base64, collections, dataclasses, datetime, functools, itertools, json, math, operator, re, "
           "statistics, struct, textwrap, unicodedata\nfrom decimal import Decimal\nfrom fractions import Fraction\n")  # fmt: skip


def _program(statements: list[list[str]], value: str) -> str:
    body = [line for lines in statements for line in lines]
    head = ["def program():", "    a, b, c = 1, 'two', [3.0]"]
    return "\n".join([*head, *_indented(body), f"    return repr({value})", "program()"])


programs = st.builds(_program, st.lists(_statements, max_size=5), expressions)
"""Source of a program; its last expression is text. `IMPORTS` must have run before."""
