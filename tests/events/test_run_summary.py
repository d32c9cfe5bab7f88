"""Figures folded from the log."""

import pytest

from events.export.charts import run_figures
from events.facts.types import PolicyServed, RunResumed
from events.facts.values import Digest
from events.projections.figures import RunningMean
from events.projections.run_summary import AcceptedQuestions, RunSummary, fold
from events.stores.memory import MemoryLog
from tests.support.example_runs import START_WEIGHTS, example_run


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


def test_buffers_hold_accepted_questions_of_each_seat_in_order(log: MemoryLog) -> None:
    example_run(log).run().goalpost().start(2).episode().episode(lift=None, rejected=["not_novel"]).finish()
    accepted = [event.fact for event in log.read(kinds=("question_accepted",))]
    buffers = fold(AcceptedQuestions(), log.read())
    assert buffers.easy == [fact.blob for fact in accepted if fact.seat == "easy"]
    assert buffers.of("hard") == [fact.blob for fact in accepted if fact.seat == "hard"]
    assert (len(buffers.easy), len(buffers.hard)) == (2, 1)


def test_proposals_are_counted_by_seat_and_rejections_by_reason(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost(2).start(2)
    tale.episode(rejected=["degenerate", "malformed", "degenerate"]).episode(lift=None).finish()
    seats = fold(RunSummary(), log.read()).iterations[1].seats
    easy, hard = seats["easy"], seats["hard"]
    assert (easy.proposed, easy.accepted, dict(easy.rejected)) == (5, 2, {"degenerate": 2, "malformed": 1})
    assert (hard.proposed, hard.accepted, dict(hard.rejected)) == (2, 1, {"malformed": 1})
    assert len(easy.parents) == 2


def test_pass_rate_alignment_and_narrowing_are_means_over_validated_questions(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost().start(3)
    tale.episode(lemma=3, lift=None, aligned=True, similarity=0.2)
    tale.episode(lemma=7, lift=None, aligned=False, similarity=0.6)
    tale.episode(lemma=5, lift=None, aligned=None, similarity=0.1).finish()
    easy = fold(RunSummary(), log.read()).iterations[1].seats["easy"]
    assert easy.pass_rate.value == pytest.approx(0.5)
    assert easy.aligned.value == pytest.approx(0.5)
    assert easy.similarity.value == pytest.approx(0.3)
    assert easy.diversity == pytest.approx(0.7)


def test_the_gap_is_a_mean_over_goalposts_and_each_remembers_first_and_last(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost(2).start(2).episode(gap_successes=0).episode(gap_successes=5).finish()
    tale.start(1).episode(gap_successes=2).finish()
    summary = fold(RunSummary(), log.read())
    first, second = summary.goalposts.values()
    assert [figures.gap.value for figures in summary.iterations.values()] == [0.75, 0.8]
    assert (first.first_gap, first.last_gap, first.measured, first.best_share) == (1.0, 0.8, 2, 1.0)
    assert (second.first_gap, second.last_gap, second.measured) == (0.5, 0.5, 1)


def test_an_iteration_knows_how_many_goalposts_have_stepping_stones_and_the_best_share_of_tests(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost(2).start(2).episode(gap_successes=5).episode(lemma=None).finish()
    tale.start(2).episode(lift=None).episode(lift=None).finish()
    summary = fold(RunSummary(), log.read())
    iterations = summary.iterations.values()
    assert [(figures.with_lemma, figures.with_lift) for figures in iterations] == [(1, 1), (2, 1)]
    assert [figures.lemmas for figures in summary.goalposts.values()] == [2, 1]
    shares = [event.fact.best_share for event in log.read(kinds=("gap_measured",))]
    assert [figures.best_share.value for figures in iterations] == [sum(shares[:2]) / 2, sum(shares[2:]) / 2]
    (figure,) = [figure for figure in run_figures(summary) if figure.name == "curriculum"]
    assert [(line.name, line.points) for line in figure.series] == [
        ("with a lemma", ((1.0, 1.0), (2.0, 2.0))),
        ("with a lift", ((1.0, 1.0), (2.0, 1.0))),
    ]


def test_episodes_are_counted_by_how_they_ended(log: MemoryLog) -> None:
    example_run(log).run().goalpost().start(4).episode().episode(lemma=None).fail().practice().finish()
    figures = fold(RunSummary(), log.read()).iterations[1]
    assert (figures.episodes, figures.finished, figures.failed) == (4, 3, 1)
    assert figures.endings == {"played": 1, "no_lemma": 1}
    assert figures.ended is not None


def test_practice_counts_only_practice_attempts(log: MemoryLog) -> None:
    example_run(log).run().goalpost().start(3).episode(gap_successes=9).practice(passing=2).practice(passing=4).finish()
    assert fold(RunSummary(), log.read()).iterations[1].practice == RunningMean(6, 16)


def test_rewards_are_means_over_completions(log: MemoryLog) -> None:
    example_run(log).run().goalpost().start(2).episode(lift=None).practice(passing=8).finish()
    figures = fold(RunSummary(), log.read()).iterations[1]
    assert figures.student_reward.value == pytest.approx((2 * 1.0 + 2 * -0.5 + 8 * 1.0) / 12)
    assert figures.seats["easy"].reward.value == pytest.approx(0.75)
    assert figures.seats["hard"].reward.value == pytest.approx(-1.0)


def test_totals_cover_the_run_and_tokens_include_evaluations(log: MemoryLog) -> None:
    example_run(log).run().goalpost().evaluate().play().end()
    summary = fold(RunSummary(), log.read())
    lengths = [event.fact.generation.length for event in log.read(kinds=("attempts_made", "question_proposed"))]
    evaluated = [event.fact.generation.length for event in log.read("evaluation/test/00000", kinds=("attempts_made",))]
    assert summary.tokens == sum(lengths)
    assert summary.iterations[1].tokens == sum(lengths) - sum(evaluated)
    assert (summary.lemmas, summary.lifts, summary.position) == (2, 2, log.head().position)


def test_updates_and_evaluations_are_kept_whole(log: MemoryLog) -> None:
    example_run(log).run().goalpost().evaluate(successes=1).play().update(Digest("a" * 64)).evaluate(successes=9)
    summary = fold(RunSummary(), log.read())
    assert [(update.iteration, update.digest) for update in summary.updates] == [(1, "a" * 64)]
    assert [(evaluation.iteration, evaluation.pass_at[1]) for evaluation in summary.evaluations] == [(0, 0.05), (1, 0.45)]


def test_policies_are_those_that_were_last_started_or_served(log: MemoryLog) -> None:
    tale = example_run(log).run()
    assert fold(RunSummary(), log.read()).policies == {"teacher": START_WEIGHTS, "student": START_WEIGHTS}
    log.append("run", [PolicyServed(role="student", policy=Digest("b"))])
    assert fold(RunSummary(), log.read()).policies == {"teacher": START_WEIGHTS, "student": "b"}
    tale.start()
    assert fold(RunSummary(), log.read()).policies == {"teacher": START_WEIGHTS, "student": START_WEIGHTS}


def test_a_resumed_run_is_not_finished(log: MemoryLog) -> None:
    example_run(log).run().end()
    assert fold(RunSummary(), log.read()).finished
    log.append("run", [RunResumed(position=2)])
    summary = fold(RunSummary(), log.read())
    assert (summary.finished, summary.resumed) == (False, 1)


def test_folding_in_two_parts_gives_what_folding_at_once_gives(log: MemoryLog) -> None:
    example_run(log).run().goalpost(2).evaluate().play().update().start(2).episode().fail().finish().end()
    whole = fold(RunSummary(), log.read())
    for cut in range(0, log.head().position, 7):
        assert fold(fold(RunSummary(), log.read(limit=cut)), log.read(after=cut)) == whole


def test_what_is_examined_after_the_end_is_no_play(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost().start(1).episode().finish().end()
    before = fold(RunSummary(), log.read())
    tale.evaluate("test-1f3c9a")
    after = fold(RunSummary(), log.read())
    assert after.played == before.played > 0
    assert len(after.evaluations) == 1
