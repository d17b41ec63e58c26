"""Programs that Hypothesis writes: whole functions of ordinary Python, each with a result, output, or an exception.

The rule: a program says the same wherever it runs correctly. So nothing in it depends on the hash of a string, on an
address, on a clock or on chance; and no number in it grows without a bound.
"""

from __future__ import annotations

from hypothesis import strategies as st

NAMES = ("a", "b", "c")


def _float(value: float) -> str:
    return repr(value) if value == value else "float('nan')"


_literals = st.one_of(
    st.integers(-(10**6), 10**6).map(repr),
    st.integers(2**62, 2**66).map(repr),
    st.floats(allow_nan=True, allow_infinity=False, width=64).map(_float),
    st.text(alphabet="abcXYZ 019äß€\U0001f600\n'\"\\", max_size=12).map(repr),
    st.binary(max_size=6).map(repr),
    st.sampled_from(["None", "True", "False", "()", "[]", "{}", "1j", "...", "range(5)", "frozenset((1, 2))"]),
)
_UNARY = ("-{}", "+{}", "~{}", "not {}", "len({})", "abs({})", "repr({})", "str({})", "bool({})", "int({})",
          "float({})",
          "list({})", "tuple({})", "sum({})", "min({})", "max({})", "sorted({})", "any({})", "iter({}).__next__()",
          "type({}).__name__", "hex({})", "ord({})", "chr({} % 1000)", "math.sqrt({})", "math.floor({})",
          "round({}, 2)",
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


def _fill(template: str, parts: tuple[str] | tuple[str, str]) -> str:
    return template.format(*(f"({part})" for part in parts))


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.builds(_fill, st.sampled_from(_UNARY), st.tuples(inner))
    two = st.builds(_fill, st.sampled_from(_BINARY), st.tuples(inner, inner))
    return st.one_of(one, two)


expressions = st.recursive(st.one_of(_literals, st.sampled_from(NAMES)), _grown, max_leaves=6)


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def _assignment(name: str, value: str) -> list[str]:
    return [f"{name} = {value}"]


def _print(value: str) -> list[str]:
    return [f"print({value})"]


def _update(name: str, value: str) -> list[str]:
    return [f"{name} += {value}"]


def _joined(blocks: list[list[str]]) -> list[str]:
    return [line for lines in blocks for line in lines]


def _branch(test: str, yes: list[str], no: list[str]) -> list[str]:
    return [f"if {test}:", *_indented(yes), "else:", *_indented(no)]


def _loop(values: str, body: list[str]) -> list[str]:
    return [f"for a in itertools.islice(iter({values}), 4):", *_indented(body)]


def _try(body: list[str], kind: str, last: list[str]) -> list[str]:
    handler = [f"except {kind} as error:", "    print(type(error).__name__)"]
    return ["try:", *_indented(body), *handler, "finally:", *_indented(last)]


def _function(body: list[str], value: str) -> list[str]:
    return ["def inner(a, b=2, *c):", *_indented(body), f"    return {value}", "a = inner(a)"]


def _class(value: str) -> list[str]:
    return [
        "@dataclasses.dataclass(order=True)",
        "class Point:",
        "    x: object",
        "    def __len__(self): return self.x % 7",
        f"b = Point({value})",
        "print(b, b == Point(b.x), bool(b))",
    ]


def _generator(value: str) -> list[str]:
    steps = ["def steps():", f"    got = yield {value}", "    yield got", "running = steps()"]
    return [*steps, "c = next(running)", "print(c, running.send(1))"]  # a generator itself would show its address


def _match(value: str) -> list[str]:
    return [
        f"match {value}:",
        "    case [first, *_]: print('list', first)",
        "    case {'k': found}: print('dict', found)",
        "    case int() | float() as number: print('number', number)",
        "    case str(): print('text')",
        "    case _: print('else')",
    ]


_names = st.sampled_from(NAMES)
_kinds = st.sampled_from(["Exception", "TypeError", "(ValueError, LookupError)", "ArithmeticError"])
_simple = st.one_of(
    st.builds(_assignment, _names, expressions),
    st.builds(_print, expressions),
    st.builds(_update, _names, expressions),
)
_blocks = st.lists(_simple, min_size=1, max_size=3).map(_joined)
_statements = st.one_of(
    _simple,
    _simple,
    st.builds(_branch, expressions, _blocks, _blocks),
    st.builds(_loop, expressions, _blocks),
    st.builds(_try, _blocks, _kinds, _blocks),
    st.builds(_function, _blocks, expressions),
    st.builds(_class, expressions),
    st.builds(_generator, expressions),
    st.builds(_match, expressions),
)

IMPORTS = ("import base64, collections, dataclasses, datetime, functools, itertools, json, math, operator, re, "
           "statistics, struct, textwrap, unicodedata\n"
           "from decimal import Decimal\nfrom fractions import Fraction\n")  # fmt: skip


def _program(statements: list[list[str]], value: str) -> str:
    body = [line for lines in statements for line in lines]
    head = ["def program():", "    a, b, c = 1, 'two', [3.0]"]
    return "\n".join([*head, *_indented(body), f"    return repr({value})", "program()"])


programs = st.builds(_program, st.lists(_statements, max_size=5), expressions)
"""Source of a program; its last expression is text. `IMPORTS` must have run before."""
