"""Measures of the teacher in reports of experiments, from logs made by hand, with every number worked out here."""

from __future__ import annotations

from contextlib import closing

import pytest

from events.facts.drawn_facts import ReferencesDrawn
from events.facts.log import Log
from events.facts.types import (
    EpisodeFinished,
    GoalpostAdded,
    PassRateMeasured,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
)
from events.facts.values import IOPair, Question, canonical
from events.stores.memory import MemoryLog
from tests.support.example_runs import example_run
from trainer.experiments.outcome import run_outcome
from trainer.experiments.teacher_measures import teacher_measures


def posed(words: str, *lines: str, name: str = "x") -> Question:
    """A question of the pocket world, or like one."""
    code = "\n".join([f"def f({name}):", *(f"    {line}" for line in lines), f"    return {name}"])
    return Question(statement=f"Given a list, {words}.", program=code, private=(IOPair(input="[1]", output="[1]"),))


GOALPOST = posed("rotate left, sort it", "x = x[1:] + x[:1]", "x = sorted(x)")


class TeacherLog:
    """Tells of one iteration's proposals, each in an episode of its own."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.tale = example_run(log).run(recipe="gasp", seed=0)
        log.append("goalposts", [GoalpostAdded(question=GOALPOST.id, blob=self.put(GOALPOST), source="hand")])

    def put(self, question: Question):
        return self.log.put(canonical(question))

    def iteration(self, *record_evaluations) -> TeacherLog:
        self.tale.start(len(record_evaluations))
        for question, fate in record_evaluations:
            self.tale.open(GOALPOST, "guided")
            self.say(QuestionProposed(seat="easy", attempt=1, parent=GOALPOST.id, generation=self.tale.generation("p", 1)))
            self.judge(question, fate)
            self.say(EpisodeFinished(reason="no_lemma"))
        self.tale.finish()
        return self

    def judge(self, question: Question | None, fate: str, seat: str = "easy") -> None:
        same = {} if question is None else {"question": question.id, "blob": self.put(question)}
        if fate in ("accepted", "too_hard", "late"):
            self.say(QuestionValidated(seat=seat, similarity=0.25, aligned=fate == "accepted", **same))
            self.say(PassRateMeasured(seat=seat, question=question.id, successes=5 if fate == "accepted" else 0, attempts=10))
        if fate == "accepted":
            self.say(QuestionAccepted(seat=seat, axis="io", **same))
        else:
            self.say(QuestionRejected(seat=seat, reason="not_novel" if fate == "late" else fate, **same))

    def say(self, fact) -> None:
        self.log.append(self.tale.stream, [fact])


@pytest.fixture
def log():
    with closing(MemoryLog()) as log:
        yield log


def test_every_measure_of_the_teacher_is_counted_by_hand(log):
    sort = posed("sort it", "x = sorted(x)")
    TeacherLog(log).iteration(
        (sort, "accepted"),
        (posed("sort it, reverse it", "x = sorted(x)", "x = x[::-1]"), "too_hard"),
        (posed("put it in order", "y = sorted(y)", name="y"), "not_novel"),
        (None, "malformed"),
        (posed("rotate it, sort it", "# noise", "z = z[1:] + z[:1]", "z = sorted(z)", name="z"), "degenerate"),
        (posed("reverse it, append 3", "x = x[::-1]", "x = x + [3]"), "late"),
    )
    assert {name: (mean.total, mean.count) for name, mean in teacher_measures(log).of("easy", [1]).items()} == {
        "valid": (4, 6),  # not the malformed and the degenerate one
        "novel": (2, 4),  # neither the one at once nor the late one
        "accepted": (1, 6),
        "aligned": (1, 3),  # of the validated ones
        "diversity": (2.25, 3),
        "pass rate": (0.5, 3),
        "overlap": (1, 1),  # sorting is the goalpost's
        "copies": (1, 5),  # the degenerate one is the goalpost by other names
        "repeats": (1, 5),  # the one that is not novel is the first by another name
        "noise": (1, 6),
    }


def test_overlap_is_the_share_of_its_operations_that_the_goalpost_has(log):
    TeacherLog(log).iteration((posed("sort it, reverse it, drop the first", "x = sorted(x)", "x = x[::-1]"), "accepted"))
    assert teacher_measures(log).of("easy", [1])["overlap"].value == pytest.approx(1 / 3)


def test_overlap_is_unknown_in_another_world(log):
    example_run(log).run().goalpost().start().episode().finish()
    measures = teacher_measures(log).of("easy", [1])
    assert measures["overlap"].value is None
    assert measures["accepted"].value == 1


def test_a_copy_that_comes_again_is_no_repeat(log):
    TeacherLog(log).iteration((GOALPOST, "too_hard"), (GOALPOST, "not_novel"))
    measures = teacher_measures(log).of("easy", [1])
    assert (measures["copies"].total, measures["repeats"].total) == (2, 0)


def test_a_lift_like_its_lemma_is_a_copy(log):
    lemma, other = posed("sort it", "x = sorted(x)"), posed("reverse it", "x = x[::-1]")
    tell = TeacherLog(log).iteration((lemma, "accepted"))
    tell.tale.start(2).open(GOALPOST, "guided")
    for question in (posed("put it in order", "x = sorted(x)"), other):
        tell.say(QuestionProposed(seat="hard", attempt=1, parent=lemma.id, generation=tell.tale.generation("p", 1)))
        tell.judge(question, "too_hard", "hard")
    assert teacher_measures(log).of("hard", [2])["copies"].value == 0.5


def test_an_open_question_like_a_reference_is_a_copy(log):
    shown, other = posed("sort it", "x = sorted(x)"), posed("reverse it", "x = x[::-1]")
    tell = TeacherLog(log)
    tell.tale.start(1).open(other, "unguided")
    tell.say(ReferencesDrawn(references=(tell.put(other), tell.put(shown))))
    tell.say(QuestionProposed(seat="open", attempt=1, parent=other.id, generation=tell.tale.generation("p", 1)))
    tell.judge(shown, "accepted", "open")
    measures = teacher_measures(log).of("open", [1])
    assert measures["copies"].value == 1
    assert measures["overlap"].value is None, "no goalpost guides it"
    assert teacher_measures(log).proposed == {"open": 1}


def test_iterations_are_pooled_by_their_counts(log):
    sort = posed("sort it", "x = sorted(x)")
    TeacherLog(log).iteration((sort, "accepted")).iteration((None, "malformed"), (None, "malformed"), (None, "broken"))
    measures = teacher_measures(log)
    assert measures.of("easy", [1])["valid"].value == 1
    assert measures.of("easy", [1, 2])["valid"].value == 0.25
    assert measures.rejected["easy"] == {"malformed": 2, "broken": 1}


@pytest.mark.parametrize(("played", "first", "last"), [(1, [1], [1]), (5, [1], [5]), (9, [1, 2, 3], [7, 8, 9])])
def test_thirds_are_of_the_iterations_that_were_played(log, played, first, last):
    tale = example_run(log).run()
    for _ in range(played):
        tale.start(0).finish()
    outcome = run_outcome(log)
    assert (list(outcome.third(last=False)), list(outcome.third(last=True))) == (first, last)
