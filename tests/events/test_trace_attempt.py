"""An attempt's story says what was asked, answered, found and learned, and what changed between two texts is shown."""

import random
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from events.facts.types import AttemptsMade, PolicyUpdated, QuestionProposed, RewardGiven
from events.facts.values import Digest, canonical
from events.projections.completion_detail import CompletionDetail, completion_detail
from events.pure.advantages import RewardGroup, trr_plus_plus_and_grpo
from events.stores.memory import MemoryLog
from events.text.diff import DiffLine, diff_lines
from tests.support.example_runs import ExampleRun, example_run, policy_updated, question


def record_example(log: MemoryLog, **config: object) -> ExampleRun:
    tale = example_run(log).run(**config).goalpost(2).evaluate().start(4)
    tale.episode(rejected=["degenerate"]).episode(lemma=7).practice(passing=3)
    return tale.fail()


def rewards(log: MemoryLog) -> list[RewardGiven]:
    return [event.fact for event in log.read(kinds=("reward_given",)) if isinstance(event.fact, RewardGiven)]


def stories(log: MemoryLog, stream: str, kind: type[AttemptsMade | QuestionProposed]) -> list[CompletionDetail]:
    events = (event for event in log.read(stream) if isinstance(event.fact, kind))
    return [completion_detail(log, "nowhere", stream, event.version, 0) for event in events]


def test_an_attempt_says_what_was_asked_and_found_and_what_it_was_worth(log: MemoryLog) -> None:
    record_example(log).finish().update(Digest("a" * 64))
    made = next(event for event in log.read("episode/00001/002") if isinstance(event.fact, AttemptsMade))
    first, last = (completion_detail(log, "nowhere", made.stream, made.version, index) for index in (0, 7))
    assert first.question is not None
    assert first.question.id == first.asked
    assert first.private == first.question.private
    assert (first.purpose, first.task, first.count, first.iteration) == ("practice", "induction", 8, 1)
    assert first.verdict is not None
    assert first.verdict.outcome == "passed"
    assert (first.reward, last.reward, first.phase) == (1.0, -0.5, "practice")
    assert (first.program, first.malformed) == (None, "no python block")
    assert len(first.ids) == len(first.logprobs)
    assert first.pieces is None
    assert first.learned_by == ("a" * 64,)


def test_an_advantage_is_what_the_credit_gives_beside_everything_that_the_iteration_rewarded(log: MemoryLog) -> None:
    record_example(log).finish()
    groups = [RewardGroup(fact.phase, fact.role, fact.task, fact.rewards) for fact in rewards(log)]
    wanted = [row[0] for row in trr_plus_plus_and_grpo(groups)]
    reward_events = list(log.read(kinds=("reward_given",)))
    advantages = [completion_detail(log, "", event.stream, event.fact.of, 0).advantage for event in reward_events]  # type: ignore[union-attr]
    assert advantages == wanted


def test_the_runs_own_credit_and_scale_make_advantages(log: MemoryLog) -> None:
    record_example(log, learn={"credit": "dr_grpo", "teacher_scale": 0.0}).finish()
    practice, proposals = stories(log, "episode/00001/002", AttemptsMade), stories(log, "episode/00001/000", QuestionProposed)
    assert practice[0].advantage == 1.0 - (3 * 1.0 - 5 * 0.5) / 8
    assert {story.advantage for story in proposals} == {0.0}


def test_the_estimator_that_an_update_records_makes_advantages_and_without_one_it_is_said_to_be_assumed(log: MemoryLog) -> None:
    record_example(log, learn={"credit": "recipe"}).finish()
    before = stories(log, "episode/00001/002", AttemptsMade)[0]
    update = policy_updated(iteration=1, after=0, until=log.head().position)
    log.append("policy/shared", [update.model_copy(update={"advantage_estimator": "dr_grpo"})])
    after = stories(log, "episode/00001/002", AttemptsMade)[0]
    assert (before.advantage_estimator, before.estimator_assumed) == ("trr_plus_plus_and_grpo", True)
    assert (after.advantage_estimator, after.estimator_assumed) == ("dr_grpo", False)
    assert after.advantage == 1.0 - (3 * 1.0 - 5 * 0.5) / 8


def test_an_update_without_an_estimator_is_recorded_as_before_there_was_such_a_field() -> None:
    update = policy_updated(iteration=1, after=0, until=2)
    assert b"advantage_estimator" not in canonical(update)
    named = update.model_copy(update={"advantage_estimator": "rloo"})
    assert PolicyUpdated.model_validate_json(canonical(named)) == named


def test_nothing_is_said_to_be_better_than_expected_before_the_iteration_ends_or_in_a_failed_episode(log: MemoryLog) -> None:
    tale = record_example(log)
    practice = stories(log, "episode/00001/002", AttemptsMade)[0]
    assert (practice.reward, practice.advantage, practice.learned_by) == (1.0, None, ())
    made = tale.attempt("practice", question(1), 1, 2)
    tale.reward(made, "practice", "student", "induction", [1.0, -0.5]).finish().update()
    failed = completion_detail(log, "", made.stream, made.version, 0)
    assert (failed.reward, failed.advantage, failed.learned_by) == (1.0, None, ())


def test_a_proposal_says_what_became_of_it(log: MemoryLog) -> None:
    record_example(log)
    degenerate, lemma, lift = stories(log, "episode/00001/000", QuestionProposed)
    assert (degenerate.role, degenerate.task, degenerate.verdict) == ("teacher", "easy", None)
    assert degenerate.proposal is not None
    assert degenerate.proposal.rejected == "degenerate"
    assert lemma.proposal is not None
    assert lemma.proposal.accepted
    assert degenerate.question == question(1000)
    assert lift.question is not None
    assert lift.question.id == lemma.proposal.question


def test_an_evaluation_on_a_set_that_is_not_in_the_log_has_its_prompt_only(log: MemoryLog) -> None:
    record_example(log)
    story = stories(log, "evaluation/test/00000", AttemptsMade)[0]
    assert (story.question, story.private, story.iteration, story.reward) == (None, (), None, None)
    assert story.prompt


@pytest.mark.parametrize(
    ("version", "index", "message"),
    [(1, 0, "Nothing was generated at version 1"), (99, 0, "Nothing was"), (2, 8, "counted from 0 to 7"), (2, -1, "from 0")],
)
def test_attempts_that_were_not_made_are_named(log: MemoryLog, version: int, index: int, message: str) -> None:
    record_example(log)
    with pytest.raises(BadInput, match=message):
        completion_detail(log, "", "episode/00001/002", version, index)


def test_pieces_are_the_completion_cut_at_its_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from events.projections.token_text import token_texts

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    (tmp_path / "weights" / "other").mkdir(parents=True)
    tokenizer.save(str(tmp_path / "weights" / "other" / "tokenizer.json"))
    text = "x = 'é🙂'\n"
    pieces = token_texts(str(tmp_path), Digest("f" * 64), tokenizer.encode(text).ids)
    assert pieces is not None
    assert "".join(pieces) == text
    assert pieces[5:11] == ["", "é", "", "", "", "🙂"]
    broken = tokenizer.encode("🙂" * 9).ids[1:-1]
    assert len(token_texts(str(tmp_path), Digest("f" * 64), [*broken, *broken, -3]) or ()) == 2 * len(broken) + 1
    (tmp_path / "weights" / "other" / "tokenizer.json").write_text("{")
    assert token_texts(str(tmp_path), Digest("f" * 64), [1]) is None
    assert token_texts(str(tmp_path / "log.sqlite"), Digest("f" * 64), []) is None


def test_what_changed_within_a_line_is_marked() -> None:
    assert diff_lines("def f(xs):\r\n    return sum(xs)\nend", "def f(xs):\n    return max(xs)\nend\nmore") == [
        DiffLine(" ", "def f(xs):"),
        DiffLine("-", "    return sum(xs)", ((11, 14),)),
        DiffLine("+", "    return max(xs)", ((11, 14),)),
        DiffLine(" ", "end"),
        DiffLine("+", "more"),
    ]


def test_lines_that_have_little_in_common_are_gone_and_new_as_a_whole() -> None:
    assert diff_lines("return sorted(xs)", "while True: pass") == [
        DiffLine("-", "return sorted(xs)"),
        DiffLine("+", "while True: pass"),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_differences_hold_both_texts_whole(seed: int) -> None:
    draw = random.Random(seed)
    old, new = ("\n".join("".join(draw.choices("ab \t(\x1b\u202e", k=9)) for _ in range(draw.randrange(30))) for _ in "ab")
    differences = diff_lines(old, new)
    assert [line.text for line in differences if line.mark != "+"] == (old.split("\n") if old else [])
    assert [line.text for line in differences if line.mark != "-"] == (new.split("\n") if new else [])
    assert all(0 <= start < end <= len(line.text) for line in differences for start, end in line.spans)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a " * 300_000, "b " * 300_000),
        ("x\n" * 300_000, "y\n" * 300_000),
        ("a b\n" * 4_000, "b a\n" * 4_000 + "c"),
        ("ab" * 500_000, "ba" * 500_000),
    ],
)
def test_huge_texts_are_compared_in_bounded_work(old: str, new: str) -> None:
    assert "\n".join(line.text for line in diff_lines(old, new) if line.mark != "-") == new
