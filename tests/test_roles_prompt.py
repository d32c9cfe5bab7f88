"""Prompt files and what is filled into them."""

from pathlib import Path

import pytest

from events.errors import BadInput
from events.values import Pair, Question
from roles.prompt import NAMES, PROMPTS, Prompts, show_pairs

QUESTION = Question(
    statement="Reverse {{pairs}} {{program}}.",
    program="def f(x):\n    return x[::-1]",
    public=(Pair(input="[1, 2]", output="[2, 1]"), Pair(input="[3]", output="[3]")),
    private=(Pair(input="[7, 8, 9]", output="[9, 8, 7]"),),
)


@pytest.mark.parametrize("folder", ["pocket", "base"])
def test_both_shipped_folders_render_every_prompt(folder: str) -> None:
    prompts = Prompts(PROMPTS / folder)
    texts = [
        prompts.induction(QUESTION).text,
        prompts.deduction("PROGRAM", QUESTION.pairs[0]).text,
        prompts.abduction("PROGRAM", QUESTION.pairs[0]).text,
        prompts.easy(QUESTION, "io").text,
        prompts.hard(QUESTION, "function").text,
    ]
    assert len(set(texts)) == len(NAMES)
    assert "f([1, 2]) == [2, 1]" in texts[0]
    assert "[1, 2]" in texts[1]
    assert "[2, 1]" not in texts[1]
    assert "[2, 1]" in texts[2]
    assert "[1, 2]" not in texts[2]
    assert "io" in texts[3]
    assert "function" in texts[4]


@pytest.mark.parametrize("folder", ["pocket", "base"])
def test_no_prompt_shows_a_private_pair_and_only_the_hard_seat_sees_the_program(folder: str) -> None:
    prompts = Prompts(PROMPTS / folder)
    assert all("[9, 8, 7]" not in prompts.render(n, **_fields()).text for n in NAMES)
    assert "x[::-1]" not in prompts.induction(QUESTION).text
    assert "x[::-1]" not in prompts.easy(QUESTION, "io").text
    assert "x[::-1]" in prompts.hard(QUESTION, "io").text


def test_inserted_text_is_never_interpreted() -> None:
    text = Prompts(PROMPTS / "pocket").induction(QUESTION).text
    assert "Reverse {{pairs}} {{program}}." in text


def test_the_template_hash_changes_with_the_file(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.md").write_text(f"{name} {{{{statement}}}}")
    before = Prompts(tmp_path).render("easy", statement="a")
    (tmp_path / "easy.md").write_text("other {{statement}}")
    after = Prompts(tmp_path).render("easy", statement="a")
    assert (before.text, after.text) == ("easy a", "other a")
    assert before.template != after.template


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"induction\.md"):
        Prompts(tmp_path)


def test_a_missing_field_and_an_unknown_prompt_are_bad_input() -> None:
    prompts = Prompts(PROMPTS / "pocket")
    with pytest.raises(BadInput, match="statement"):
        prompts.render("easy", pairs="", axis="io")
    with pytest.raises(BadInput, match="medium"):
        prompts.render("medium")


def test_programs_that_read_text_are_shown_with_their_text() -> None:
    question = Question(
        statement="Add.",
        mode="stdin",
        public=(Pair(input="1 2", output="3"),),
        private=(Pair(input="2 2", output="4"),),
    )
    assert show_pairs(question) == "Input:\n1 2\nOutput:\n3"


def _fields() -> dict[str, str]:
    return {
        "statement": "S",
        "program": "P",
        "pairs": show_pairs(QUESTION),
        "axis": "io",
        "input": "I",
        "output": "O",
        "entry": "f",
    }
