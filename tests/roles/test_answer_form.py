"""Answer forms: what is given, where the model's parts end, and what a set says that has none or a wrong one."""

import shutil
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from events.facts.values import CompletionPart, Sampling
from roles.answer_form import parse_form
from roles.prompt import Prompts
from roles.prompt_set import SHIPPED_PROMPTS
from tests.roles.test_prompt import FUNCTION

FORM = (
    "```message\nWrite a function f that{{message}}\n```\n\n```python\ndef f{{program...}}\n```\n\n"
    "assert f{{inputs}}==\nassert f{{inputs...}}\nend"
)


def test_a_part_ends_with_the_text_after_its_mark_or_with_its_line() -> None:
    assert parse_form(Path("x"), FORM, ("message", "program", "inputs")) == (
        CompletionPart(given="```message\nWrite a function f that", stops=("\n",)),
        CompletionPart(given="```\n\n```python\ndef f", stops=("\n```",)),
        CompletionPart(given="\n\nassert f", stops=("==", "\n")),
        CompletionPart(given="\nassert f", stops=("\nend",)),
    )


def test_a_program_that_is_completed_begins_with_its_question() -> None:
    prompts, stub = Prompts.named("completion"), 'import math\n\n\ndef f(x):\n    """Turn {{x}}."""'
    quoted = "\"\"\"\nTurn '''x'''.\n\"\"\""
    for statement, beginning in ((stub, stub), ('Turn """x""".', quoted), ("x = 1", '"""\nx = 1\n"""')):
        (part,) = prompts.induction(FUNCTION.model_copy(update={"statement": statement})).form
        assert part == CompletionPart(given=f"```python\n{beginning}\n", stops=("\n```",))
    short = Prompts.named("short")
    assert prompts.rules.form == "plain"
    assert prompts.system is None
    assert prompts.easy(FUNCTION, "io").form == short.easy(FUNCTION, "io").form


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("```\n{{program...}}\n```", "each of the marks {{message}}, {{program}}"),
        ("{{message}}\n{{code}}\n{{program}}\n", "and no others"),
        ("{{message}}{{program}}\n", "a text after each mark"),
        ("{{message}}\n{{program...}}", "a text after each mark"),
        ("{{message}}\n{{program...}} ```\n", "a text after each mark"),
    ],
)
def test_a_form_that_cannot_be_followed_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=r"Answer form here\.md must have") as error:
        parse_form(Path("here.md"), text, ("message", "program"))
    assert why in str(error.value)


def test_a_form_is_part_of_the_prompts_it_is_for(tmp_path) -> None:
    short = Prompts.named("short")
    lemma, answer = short.easy(FUNCTION, "io"), short.induction(FUNCTION)
    assert len(lemma.form) == 10
    assert answer.form == (CompletionPart(given="```python\n", stops=("\n```",)),)
    request = short.request(lemma, 2, 7, Sampling(stop=("mine",)))
    assert (request.parts, request.sampling.stop) == (lemma.form, ("mine",))
    shutil.copytree(SHIPPED_PROMPTS / "short", tmp_path / "set")
    form = tmp_path / "set" / "proposal.form.md"
    form.write_text(form.read_text().replace("version: 1", "version: 2"))
    changed = Prompts.named(str(tmp_path / "set"))
    assert changed.digest != short.digest
    assert changed.easy(FUNCTION, "io").template != lemma.template
    assert changed.induction(FUNCTION) == answer
    form.unlink()
    assert Prompts.named(str(tmp_path / "set")).easy(FUNCTION, "io").form == ()


def test_a_lift_may_have_a_form_of_its_own_that_begins_with_its_lemma(tmp_path) -> None:
    shutil.copytree(SHIPPED_PROMPTS / "short", tmp_path / "set")
    prompts = Prompts.named("short")
    lift = prompts.hard(FUNCTION, "io")
    assert lift.form[0] == CompletionPart(given=f"```message\n{FUNCTION.statement} Then", stops=("\n",))
    assert lift.form[1:] == prompts.aimed(FUNCTION, FUNCTION, "io").form[1:] == prompts.easy(FUNCTION, "io").form[1:]
    (tmp_path / "set" / "hard.form.md").unlink()
    assert Prompts.named(str(tmp_path / "set")).hard(FUNCTION, "io").form == prompts.easy(FUNCTION, "io").form
