"""Literals and their comparison on the host: total on hostile text, exact about what is the same."""

import ast
import math
import time
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.pure import literal
from sandbox.compare import canonical_arguments, canonical_text, outputs_match, python_equal

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.characters(categories=["Cs"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(), max_size=4)
        | st.sets(st.integers() | st.tuples(st.text()), max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
def test_what_is_written_reads_back_as_the_same_value(value):
    text = literal.write(value, 10**6)
    again = literal.read(text)
    assert type(again) is type(value)
    assert literal.write(again, 10**6) == text
    assert outputs_match(text, text)


@given(st.text(alphabet="()[]{}'\"\\,:+-0123456789.eEjxbnaif setrozNoTu\n\x00é"))
def test_comparison_never_raises_whatever_comes_out(text):
    assert outputs_match("1", text) in (True, False)
    assert outputs_match(text, "1") in (True, False)
    assert outputs_match("1 2", text, "stdin") in (True, False)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("1", "1.0"),
        ("[1, {2: (3,)}]", "[1+0j, {2.0: (3.0,)}]"),
        ("{1, True}", "{1}"),
        ("719999400001.0", "7.199994e11"),
        ("[1, 2]", "[1,  # one\n2]  # two"),
        ("0.3", "0.30000000000000004"),
        ("nan", "nan"),
        ("[inf, -inf]", "[inf, -inf]"),
        ("{1, 2}", "{2, 1}"),
        ("{1: 'a', 2: [0.1]}", "{2: [0.1], 1: 'a'}"),
        ("frozenset({(1, 2)})", "frozenset({(1.0, 2)})"),
        ("{'k': {(True, 1)}}", "{'k': {(True, 1)}}"),
        ("'a' 'b'", '"ab"'),
        ("1+2j", "(1+2j)"),
        ("[1,]", "[1]"),
    ],
)
def test_these_are_the_same(one, two):
    assert outputs_match(one, two)
    assert outputs_match(two, one)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("True", "1"), ("719999400001", "7.199994e11"), ("[719999400001]", "[7.199994e11]"),
        ("{'k': (719999400001,)}", "{'k': (7.199994e11,)}"), ("{719999400001}", "{7.199994e11}"),
        ("{719999400001: 0}", "{7.199994e11: 0}"), ("719999400001+0j", "719999400002"), ("1j", "1"),
        ("9007199254740993", "9007199254740992.0"), ("False", "0"), ("{True}", "{1}"), ("{True: 0}", "{1: 0}"),
        ("[(1, True)]", "[(1, 1)]"), ("(1, 2)", "[1, 2]"), ("(1,)", "1"), ("{1}", "frozenset({1})"), ("'1'", "1"),
        ("b'1'", "'1'"), ("0", "1e-12"), ("1", "1.000001"), ("[]", "()"), ("set()", "{}"), ("None", "0"),
        ("[1, 2]", "[1, 2, 3]"), ("{1: 2}", "{1: 3}"), ("nan", "0"), ("inf", "1" + "0" * 400),
    ],
)  # fmt: skip
def test_these_differ(one, two):
    assert not outputs_match(one, two)
    assert not outputs_match(two, one)


@pytest.mark.parametrize(
    "text",
    [
        "", "f(1)", "__import__('os')", "1+1", "--1", "lambda: 1", "[1", "1, 2", "{[1]: 2}", "{**{}}", "'unclosed",
        "(" * 100_000, "-" * 100_000 + "1", "[" * 101 + "]" * 101, "9" * 5000, "'\\N{no such name}'",
        "0x" + "f" * 400 + "+1j", "'\\xg'", "007", "b'é'", "'a' b'b'", "'a\rb'", "{1: 2, 3, 4: 5: 6}", "[1,,2]",
        "(,)", "set({1})", "frozenset(1)", "{(1, [2])}", "\ud800", "x" * 1_000_000, "nan\x00",
    ],
)  # fmt: skip
def test_text_that_is_no_literal_is_not_even_the_same_as_itself(text):
    assert not outputs_match(text, text)


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [
        ("1 2\n3\n", "1 2 \n3", True), ("0.5 1", "0.50 1.0", True), ("yes", "yes\n\n", True),
        ("1\n\n2", "1\n2", False), ("1 2", "1 2 3", False), ("Yes", "yes", False),
        ("nan", "NaN", False), ("1", "sNaN", False), ("", "", True),
    ],
)  # fmt: skip
def test_printed_text_compares_line_by_line_and_number_by_number(expected, got, verdict):
    assert outputs_match(expected, got, "stdin") is verdict


def test_arguments_are_literals_between_commas():
    assert literal.read_arguments("'ab', 3") == ("ab", 3)
    assert literal.read_arguments("[1, 2]") == ([1, 2],)
    assert literal.read_arguments(" \n") == ()
    with pytest.raises(literal.NotLiteral):
        literal.read_arguments("1), (2")


def test_only_exactly_builtin_types_are_written():
    class Liar(int):
        def __repr__(self):
            return "1"

    itself: list = []
    itself.append(itself)
    for value in (Liar(2), object(), range(3), bytearray(b"x"), itself, complex(math.nan, 0), {"k": Liar(1)}):
        with pytest.raises(literal.NotLiteral):
            literal.write(value, 1000)


def test_writing_stops_at_the_limit_however_few_objects_there_are():
    wide: list = [0] * 1000
    for _ in range(8):
        wide = [wide] * 1000
    for value in (wide, "x" * 10_001, b"x" * 10_001, 1 << 10**6):
        with pytest.raises(literal.TooLarge):
            literal.write(value, 10_000)


def test_integers_too_long_for_decimal_digits_survive_the_way_out_and_in():
    value = -(7**9000)
    assert literal.read(literal.write(value, 10**6)) == value


FRAGMENTS = """1 0 - + j 1.5 1e5 0x1f 0b1 _ 01 .5 5. ' " 'a' b'c' r'\\d' '\\n' '\\x41' '\\u0041' '\\101' '\\N{OX}' '\\q' [ ] ( ) { } , : None
True set() frozenset( nan inf \\ é #""".split()


@given(st.lists(st.sampled_from([*FRAGMENTS, " ", "\n", "\r", "'''", "\f"]) | st.text(max_size=2), max_size=9).map("".join))
def test_reading_gives_what_python_gives_or_says_that_it_is_no_literal(text):
    misread = []
    for read in (literal.read, literal.outline):
        try:
            misread.append(read(text))
        except literal.NotLiteral:
            misread.append(literal.NotLiteral)
    assert (misread[0] is literal.NotLiteral) == (misread[1] is literal.NotLiteral)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, OverflowError):
        return
    # Python takes a few texts more: a tuple without brackets, brackets around a signed number.
    assert misread[0] is literal.NotLiteral or (type(misread[0]) is type(value) and repr(misread[0]) == repr(value))


@given(plain, plain)
def test_canonical_texts_are_equal_for_equal_values_only(one, two):
    first, second = (literal.outline(literal.write(value, 10**6)) for value in (one, two))
    assert canonical_text(first) == canonical_text(literal.outline(literal.write(one, 10**6)))
    if canonical_text(first) == canonical_text(second):
        assert outputs_match(literal.write(one, 10**6), literal.write(two, 10**6))


def test_arguments_are_equal_by_value():
    assert canonical_arguments("[1 ],'a'") == canonical_arguments(' [1.0], "a" # said')
    assert canonical_arguments("{'b': 1, 'a': {2, 3}}") == canonical_arguments("{'a': {3, 2}, 'b': 1}")
    assert len({canonical_arguments(text) for text in ("1", "True", "'1'", "[1]", "(1,)", "1, 1", "")}) == 7


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [("1", "True", True), ("(1, 2)", "[1, 2]", True), ("[(1,)]", "[[1]]", False), ("{True: [1.0]}", "{1: [1]}", True),
     ("1.0", "1.0000000000001", False), ("{1, 2}", "{2, True}", True), ("nan", "nan", False)],
)  # fmt: skip
def test_livecodebench_compares_as_python_does(expected, got, verdict):
    assert python_equal(expected, got) is verdict


PRIME = 2**61 - 1
"""Integers that are a multiple apart have equal hashes."""
FILLED = {
    "numbers": "[" + "1," * 32_000 + "]",
    "empty lists": "[" + "[]," * 21_000 + "]",
    "colliding elements": "{" + ",".join(str(k * PRIME) for k in range(1, 2_800)) + "}",
    "colliding keys": "{" + ",".join(f"{k * PRIME}:0" for k in range(1, 2_600)) + "}",
    "colliding tuples": "{" + ",".join(f"({k * PRIME},)" for k in range(1, 2_400)) + "}",
    "colliding floats": "{" + ",".join(f"{k}e{300 - len(str(k))}" for k in range(1, 6_000)) + "}",
    "tuples of what hashes to zero": "{" + ",".join(str(tuple("" if i >> b & 1 else b"" for b in range(11))) for i in range(900)) + "}",
    "frozensets": "{" + ",".join(f"frozenset({{{k * PRIME}}})" for k in range(1, 1_700)) + "}",
    "distinct": "{" + ",".join(map(str, range(10**3, 13 * 10**3))) + "}",
    "nested": "[" + ("[" * 99 + "]" * 99 + ",") * 320 + "]",
    "a long integer": "9" * 65_000,
    "a long hexadecimal": "0x" + "f" * 65_000,
    "integers": "[" + ("9" * 4_300 + ",") * 15 + "]",
    "a long fraction": "0." + "1" * 65_000,
    "escapes": "'" + "\\n" * 32_000 + "'",
    "unclosed": "'\\" * 32_000,
    "unclosed thrice": "'''\\" * 16_000,
    "pieces": "'' " * 21_000,
    "signs": "-" * 65_000,
    "spaces": " " * 65_000,
    "comments": "#" * 65_000,
    "names": "nan" * 21_000,
}  # fmt: skip


@pytest.mark.parametrize("text", FILLED.values(), ids=FILLED.keys())
def test_no_text_of_the_allowed_size_takes_long_to_compare(text):
    assert len(text) <= 1 << 16

    def seconds() -> float:
        began = time.process_time()
        outputs_match("[1]", text)
        outputs_match(text, text)
        return time.process_time() - began

    # Two comparisons, each of which should take 50 ms at most, with room for a busy machine. Quadratic time would be seconds.
    assert any(seconds() < 0.3 for _ in range(3))
