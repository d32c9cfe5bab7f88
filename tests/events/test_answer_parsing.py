"""Parsing answers: exact on the asked form, total on everything else."""

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from events.pure import literal
from events.pure.answer_parsing import (
    Malformed,
    Proposal,
    fenced_block,
    parse_input,
    parse_output,
    parse_program,
    parse_proposal,
)
from sandbox.compare import outputs_match
from tests.sandbox.test_compare import plain

LINES = st.lists(
    st.sampled_from(
        [
            "<think>", "</think>", "<answer>", "</answer>", "  ~~~~ py title=x", "~~~~", "````",
            "\r", "```python", "```", "```input", "```output", "```message", "def f(x):",
            "    return x", "1", "[1, 2]", "", "]) + (", "\0",
        ]
    )
    | st.text(max_size=20),
    max_size=30,
).map("\n".join)  # fmt: skip


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


def test_the_last_block_counts() -> None:
    assert parse_program("```python\nfirst\n```\n```python\nsecond\n```\n```text\nnever closed") == "second"


def test_an_answer_that_was_cut_is_none_and_its_drafts_do_not_stand_in() -> None:
    drafted = "```python\ndraft\n```\n"
    assert parse_program(drafted + "```python\ndef f(x):") == Malformed("the python block is not closed")
    assert parse_program("```\nwhat\n```python\nx") == Malformed("no python block, and another is not closed")
    assert parse_program("only words") == Malformed("no python block")


@pytest.mark.parametrize(
    "opening",
    [
        "```python", "``` Python", "```PY", "```python3 title='a'",
        "```{.python .numberLines}", "```python,x", "~~~py", "\t```python",
    ],
)  # fmt: skip
def test_a_language_is_read_in_any_case_and_with_attributes(opening: str) -> None:
    closing = "~~~" if opening.startswith("~") else "```"
    assert parse_program(f"{opening}\nx = 1\n{closing}") == "x = 1"


@pytest.mark.parametrize("opening", ["```pythonic", "```", "```c python", "``python", "```python `x`", "a ```python"])
def test_what_names_another_language_or_is_no_fence_opens_no_program(opening: str) -> None:
    assert isinstance(parse_program(f"{opening}\nx = 1\n```\n"), Malformed)


def test_a_longer_fence_holds_shorter_ones() -> None:
    inner = 's = """\n```python\nno\n```\n~~~\n"""'
    assert parse_program(f"````python\n{inner}\n`````") == inner
    assert fenced_block(f"~~~~message\n{inner}\n~~~~", "message") == inner


def test_an_indented_block_loses_its_own_indentation_only() -> None:
    assert parse_program("1. So:\n   ```python\n   def f(x):\n       return x\n  # less\n\n   ```") == (
        "def f(x):\n    return x\n# less\n"
    )


@pytest.mark.parametrize(
    ("margin", "indent", "closes"),
    [
        ("", "", True), ("", "   ", True), ("", "    ", False), ("", "\t", False), ("  ", "", True),
        ("  ", "   ", True), ("  ", "    ", False), ("  ", "\t", True),
    ],
)  # fmt: skip
def test_a_fence_closes_unless_it_is_indented_by_more_than_three_columns(margin: str, indent: str, closes: bool) -> None:
    parsed = parse_program(f"{margin}```python\n{margin}x = 1\n{margin}{indent}```\n{margin}y = 2\n{margin}```")
    assert parsed == ("x = 1" if closes else f"x = 1\n{indent}```\ny = 2")


def test_a_fence_in_a_docstring_is_text() -> None:
    program = 'def f(x):\n    """Double it.\n\n    ```\n    f(2) == 4\n    ```\n    """\n    return 2 * x'
    assert parse_program(f"Here:\n```python\n{program}\n```\nThat is it.") == program


def test_line_ends_of_windows_are_line_ends() -> None:
    assert parse_program("Well.\r\n```python\r\nx = 1\r\ny = 2\r\n```\r\n") == "x = 1\ny = 2"


THOUGHT = "so ```python\n\n```python\ndraft\n```\nand ```\n```\nunclosed"


@pytest.mark.parametrize(
    "text",
    [
        f"{THOUGHT}\n</think>\n<answer>\n```python\nx = 1\n```\n</answer>",
        f"<think>{THOUGHT}</think> <answer>```python\nx = 1\n```</answer> and\n```python\nno\n```",
        f"{THOUGHT}</think>\n\n<answer>\nHere.\n```python\nx = 1\n```",
        f"\n<answer>\n{THOUGHT}\n</think><answer>\n```python\nx = 1\n```\n</answer>",
    ],
)
def test_only_the_answer_part_counts_where_there_is_one(text: str) -> None:
    assert parse_program(text) == "x = 1"


def test_the_end_of_a_thought_ends_its_blocks() -> None:
    drafted = "<think>\nPerhaps\n```python\nno\n</think>\n\n"
    assert parse_program(f"{drafted}```python\nx = 1\n```") == "x = 1"
    assert isinstance(parse_program(drafted), Malformed)
    assert parse_proposal(drafted + proposal()) == parse_proposal(proposal())


def test_without_an_answer_part_any_block_counts() -> None:
    assert parse_program("```python\nx = '<answer>'\n```") == "x = '<answer>'"
    assert parse_program("<think>\n</think>\n```python\nx = 1\n```") == "x = 1"


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("fence", ["```", "~~~~"])
@given(lines=st.lists(st.text(alphabet='ab `~"<>/#(', max_size=12), min_size=1, max_size=6))
def test_what_was_fenced_is_read_back(fence: str, closed: bool, lines: list[str]) -> None:
    assume(not any(line.lstrip().startswith(("```", "~~~")) for line in lines) and any(line.strip() for line in lines))
    program = "\n".join(lines)
    parsed = parse_program(f"{fence}python\n{program}\n" + (fence if closed else ""))
    assert parsed == (program if closed else Malformed("the python block is not closed"))


@pytest.mark.parametrize(
    "piece",
    [
        "`", "```\n", "```", "``` ", "~~~\n```\n", "<answer>\n", "</think>",
        "</think><answer>", " ", "\n", "\r\n", "\t```python\n", "{", "1,", "(",
    ],
)  # fmt: skip
def test_hostile_text_takes_time_in_proportion(piece: str) -> None:
    def seconds(length: int) -> float:
        text = "```python\n" + piece * (length // len(piece))
        began = time.process_time()
        for parse in (parse_output, parse_proposal):
            parse(text)
        return time.process_time() - began

    # Thirty-two times the text: quadratic time would be a thousandfold.
    assert seconds(320_000) < 200 * max(min(seconds(10_000) for _ in range(3)), 1e-3)


@pytest.mark.parametrize("text", ["", "def f(x): return x", "```python\n```", "```python\n  \n```", "```python\nx"])
def test_a_missing_program_is_malformed(text: str) -> None:
    assert isinstance(parse_program(text), Malformed)


def test_a_program_keeps_its_indentation() -> None:
    assert parse_program("```python\ndef f(x):\n    return x\n```") == "def f(x):\n    return x"


@pytest.mark.parametrize(
    "text", ["[1, 2]", "'a'", "{1: (2, 3)}", "None", "-3.5", "nan", "-inf", "frozenset({1})", "set()", repr("x" * 60_000)]
)
def test_an_output_is_a_literal(text: str) -> None:
    assert parse_output(f"```output\n{text}\n```") == text


@pytest.mark.parametrize(
    "text", ["f(1)", "__import__('os')", "x", "[" * 3000, "-" * 3000 + "1", "1 +", "(" * 150 + ")" * 150, "9" * 5000]
)
def test_anything_else_is_no_output(text: str) -> None:
    assert isinstance(parse_output(f"```output\n{text}\n```"), Malformed) or text.startswith("(")


@given(plain)
def test_whatever_a_program_may_return_can_be_answered_and_judged(value: object) -> None:
    text = literal.write(value, 1 << 16)
    parsed = parse_output(f"So:\n```output\n{text}  # as asked\n```")
    assert isinstance(parsed, str)
    assert outputs_match(text, parsed)
    assert parse_input(f"```input\n{text}, {text}\n```") == f"{text}, {text}"


@given(st.text(alphabet="()[]{}'\"\\\\,:+-01.ejxbnaif setrozNoTu\n#") | LINES)
def test_what_parses_is_what_can_be_read(text: str) -> None:
    parsed = parse_output(f"~~~~~output\n{text}\n~~~~~")
    assert isinstance(parsed, Malformed) or outputs_match(parsed, parsed)
    try:
        literal.read(text)
    except literal.NotLiteral:
        assert isinstance(parsed, Malformed)
    else:
        assert isinstance(parsed, str)


def test_comments_are_no_part_of_an_answer() -> None:
    assert parse_output("```output\n[1, '#']  # note\n```") == "[1, '#']"
    parsed = parse_proposal(proposal(inputs="# small ones\n1 # one\n2\n3\n'#', 4\n5"))
    assert isinstance(parsed, Proposal)
    assert parsed.inputs == ("1", "2", "3", "'#', 4", "5")


@pytest.mark.parametrize("text", ["1", "'a', 3", "[1], [2]"])
def test_an_input_is_the_arguments_of_one_call(text: str) -> None:
    assert parse_input(f"```input\n{text}\n```") == text


@pytest.mark.parametrize("text", ["1), (2", "1] + [2", "*[1]", "x=1", "open('f')", "1) or f(2"])
def test_an_input_cannot_leave_its_brackets(text: str) -> None:
    assert isinstance(parse_input(f"```input\n{text}\n```"), Malformed)


def test_a_proposal_has_program_message_and_five_inputs() -> None:
    assert parse_proposal(proposal()) == Proposal("def f(x):\n    return x", "Say it.", ("1", "2", "3", "4", "5"))


@pytest.mark.parametrize("inputs", ["1\n2\n3\n4", "1\n2\n3\n4\nf(x)", "1\n2\n3\n4\nf(5", "1\n2\n3\n4\ng(5)", ""])
def test_too_few_inputs_are_malformed(inputs: str) -> None:
    assert isinstance(parse_proposal(proposal(inputs=inputs)), Malformed)


@pytest.mark.parametrize(
    ("lines", "inputs"),
    [
        ("f(1)\n f( 2 )\n>>> f(3)\nassert f(4) == 5\nassert f(5)==", ("1", "2", "3", "4", "5")),
        (
            "f([1, ')']) # no\nf((1, 2), 'a') == f(3)\nf(1), 2\n4\n{1: 'f(2)'}",
            ("[1, ')']", "(1, 2), 'a'", "1", "4", "{1: 'f(2)'}"),
        ),
        ("1\n2\n3\nf(x)\nlet me see\n4\n# 9\n5", ("1", "2", "3", "4", "5")),
        ("\n".join(map(str, range(20))), tuple(map(str, range(10)))),
        (
            "[[1, 2],  # it's\n [3, 4]]\nf(\n    [5],\n    6,\n)\nf([7],\n  '(')\n{8:\n\n9}\n(\n# ten\n10)",
            ("[[1, 2], [3, 4]]", "[5], 6", "[7], '('", "{8: 9}", "( 10)"),
        ),
        ("[0, 1\n2\n(see\n3\n4\n5\n[6]", ("2", "3", "4", "5", "[6]")),
    ],
)
def test_calls_are_inputs_and_other_lines_do_not_count(lines: str, inputs: tuple[str, ...]) -> None:
    read = parse_proposal(proposal(inputs=lines))
    assert isinstance(read, Proposal)
    assert read.inputs == inputs


def test_of_an_input_block_that_was_cut_the_whole_lines_count() -> None:
    whole = "```python\nx = 1\n```\n```message\nSay it.\n```\n```input\n1\n2\n3\n4\n5\n6, 7"
    read = parse_proposal(whole)
    assert isinstance(read, Proposal)
    assert read.inputs == ("1", "2", "3", "4", "5")
    assert isinstance(parse_proposal(whole.replace("\n6, 7", "")), Malformed)


def test_a_proposal_without_a_message_is_malformed() -> None:
    assert parse_proposal(proposal(message=" ")) == Malformed("the message block is empty")


def test_reasons_do_not_repeat_the_models_text() -> None:
    parsed = parse_output("```output\n\x1b[31mred\n```")
    assert isinstance(parsed, Malformed)
    assert "\x1b" not in parsed.reason
