"""Parsing answers: exact on the asked form, total on everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.parse import Malformed, Proposal, block, parse_input, parse_output, parse_program, parse_proposal

LINES = st.lists(
    st.sampled_from(
        [
            "```python",
            "```",
            "```input",
            "```output",
            "```message",
            "def f(x):",
            "    return x",
            "1",
            "[1, 2]",
            "",
            "]) + (",
            "\0",
        ]
    )
    | st.text(max_size=20),
    max_size=30,
).map("\n".join)


def proposal(program: str = "def f(x):\n    return x", message: str = "Say it.", inputs: str = "1\n2\n3\n4\n5") -> str:
    return f"Well.\n```python\n{program}\n```\n```message\n{message}\n```\nand\n```input\n{inputs}\n```\nbye"


@given(LINES | st.text())
def test_parsing_never_raises(text: str) -> None:
    for parse in (parse_program, parse_output, parse_input):
        assert isinstance(parse(text), str | Malformed)
    assert isinstance(parse_proposal(text), Proposal | Malformed)


@given(LINES)
def test_what_parses_can_be_written_to_a_log(text: str) -> None:
    program = parse_program(text)
    if isinstance(program, str):
        assert program.encode()
        assert "\0" not in program


def test_the_last_closed_block_counts() -> None:
    text = "```python\nfirst\n```\n```python\nsecond\n```\n```python\nnever closed"
    assert parse_program(text) == "second"


def test_a_fence_of_another_language_hides_what_is_in_it() -> None:
    assert isinstance(block("```message\n```python\n", "python"), Malformed)
    assert parse_output("```text\n```\n```output\n7\n```") == "7"


@pytest.mark.parametrize("text", ["", "def f(x): return x", "```python\n```", "```python\n  \n```", "```python\nx"])
def test_a_missing_program_is_malformed(text: str) -> None:
    assert isinstance(parse_program(text), Malformed)


def test_a_program_keeps_its_indentation() -> None:
    assert parse_program("```python\ndef f(x):\n    return x\n```") == "def f(x):\n    return x"


@pytest.mark.parametrize("text", ["[1, 2]", "'a'", "{1: (2, 3)}", "None", "-3.5"])
def test_an_output_is_a_literal(text: str) -> None:
    assert parse_output(f"```output\n{text}\n```") == text


@pytest.mark.parametrize(
    "text", ["f(1)", "__import__('os')", "x", "[" * 3000, "-" * 3000 + "1", "1 +", "(" * 150 + ")" * 150, "9" * 5000]
)
def test_anything_else_is_no_output(text: str) -> None:
    found = parse_output(f"```output\n{text}\n```")
    assert isinstance(found, Malformed) or text.startswith("(")


@pytest.mark.parametrize("text", ["1", "'a', 3", "[1], [2]"])
def test_an_input_is_the_arguments_of_one_call(text: str) -> None:
    assert parse_input(f"```input\n{text}\n```") == text


@pytest.mark.parametrize("text", ["1), (2", "1] + [2", "*[1]", "x=1", "open('f')", "1) or f(2"])
def test_an_input_cannot_leave_its_brackets(text: str) -> None:
    assert isinstance(parse_input(f"```input\n{text}\n```"), Malformed)


def test_a_proposal_has_program_message_and_five_inputs() -> None:
    found = parse_proposal(proposal())
    assert found == Proposal("def f(x):\n    return x", "Say it.", ("1", "2", "3", "4", "5"))


@pytest.mark.parametrize("inputs", ["1\n2\n3\n4", "1\n2\n3\n4\n5\n6", "1\n2\n3\n4\nf(5)", ""])
def test_other_inputs_are_malformed(inputs: str) -> None:
    assert isinstance(parse_proposal(proposal(inputs=inputs)), Malformed)


def test_a_proposal_without_a_message_is_malformed() -> None:
    found = parse_proposal(proposal(message=" "))
    assert found == Malformed("empty message block")


def test_reasons_do_not_repeat_the_models_text() -> None:
    found = parse_output("```output\n\x1b[31mred\n```")
    assert isinstance(found, Malformed)
    assert "\x1b" not in found.reason
