"""Literals and their comparison on the host: total on hostile text, exact about what is the same."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import literal
from sandbox.compare import same

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
    assert same(text, text)


@given(st.text(alphabet="()[]{}'\"\\,:+-0123456789.eEjxbnaif setrozNoTu\n\x00é"))
def test_comparison_never_raises_whatever_comes_out(text):
    assert same("1", text) in (True, False)
    assert same(text, "1") in (True, False)
    assert same("1 2", text, "stdin") in (True, False)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("1", "1.0"),
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
    assert same(one, two)
    assert same(two, one)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("True", "1"),
        ("False", "0"),
        ("{True}", "{1}"),
        ("{True: 0}", "{1: 0}"),
        ("[(1, True)]", "[(1, 1)]"),
        ("(1, 2)", "[1, 2]"),
        ("(1,)", "1"),
        ("{1}", "frozenset({1})"),
        ("'1'", "1"),
        ("b'1'", "'1'"),
        ("0", "1e-12"),
        ("1", "1.000001"),
        ("[]", "()"),
        ("set()", "{}"),
        ("None", "0"),
        ("[1, 2]", "[1, 2, 3]"),
        ("{1: 2}", "{1: 3}"),
        ("nan", "0"),
        ("inf", "1" + "0" * 400),
    ],
)
def test_these_differ(one, two):
    assert not same(one, two)
    assert not same(two, one)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f(1)",
        "__import__('os')",
        "1+1",
        "--1",
        "lambda: 1",
        "[1",
        "1, 2",
        "{[1]: 2}",
        "{**{}}",
        "'unclosed",
        "(" * 100_000,
        "-" * 100_000 + "1",
        "[" * 101 + "]" * 101,
        "9" * 5000,
        "'\\N{no such name}'",
        "x" * 1_000_000,
        "nan\x00",
    ],
)
def test_text_that_is_no_literal_is_not_even_the_same_as_itself(text):
    assert not same(text, text)


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [
        ("1 2\n3\n", "1 2 \n3", True),
        ("0.5 1", "0.50 1.0", True),
        ("yes", "yes\n\n", True),
        ("1\n\n2", "1\n2", False),
        ("1 2", "1 2 3", False),
        ("Yes", "yes", False),
        ("nan", "NaN", False),
        ("1", "sNaN", False),
        ("", "", True),
    ],
)
def test_printed_text_compares_line_by_line_and_number_by_number(expected, got, verdict):
    assert same(expected, got, "stdin") is verdict


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
