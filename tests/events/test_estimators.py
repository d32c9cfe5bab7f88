"""pass@k and its interval, against what is known exactly."""

from __future__ import annotations

import random
from itertools import combinations
from statistics import fmean, stdev

import pytest

from events.pure.estimators import (
    CONFIDENCE,
    paired_difference_interval,
    pass_at_k,
    pass_at_k_interval,
    seed_contributions,
    seed_mean_interval,
    student_interval,
    wilson_interval,
)


@pytest.mark.parametrize(("count", "k"), [(0, 1), (1, 1), (3, 2), (3, 4), (5, 5), (6, 6)])
def test_pass_at_k_is_the_share_of_drawn_handfuls_with_a_success(count, k):
    answers = [True] * count + [False] * (6 - count)
    assert pass_at_k(6, [count], k) == pytest.approx(fmean(any(some) for some in combinations(answers, k)))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Questions of very different difficulty, as real ones are: p is drawn from Beta(0.5, 1), whose mean is 1/3."""
    chance, held, trials = random.Random(1), 0, 120
    for _ in range(trials):
        shares = [chance.betavariate(0.5, 1) for _ in range(60)]
        counts = [sum(chance.random() < share for _ in range(10)) for share in shares]
        low, high = pass_at_k_interval(10, counts, 1)
        held += low <= 1 / 3 <= high
    assert CONFIDENCE - 0.045 <= held / trials <= CONFIDENCE + 0.045


def test_more_questions_make_it_narrower():
    few, many = (pass_at_k_interval(4, [0, 1, 4] * times, 2) for times in (3, 30))
    assert many.high - many.low < (few.high - few.low) / 2


def test_one_question_has_the_interval_of_its_answers():
    low, high = pass_at_k_interval(20, [0], 1)
    assert (low, high) == (0.0, pytest.approx(0.1611, abs=1e-4))
    low, high = pass_at_k_interval(20, [10], 1)
    assert (low, high) == (pytest.approx(0.2993, abs=1e-4), pytest.approx(0.7007, abs=1e-4))
    assert pass_at_k_interval(20, [0], 5).high == pytest.approx(1 - (1 - 0.1611) ** 5, abs=1e-3)


def test_questions_all_alike_are_no_certainty():
    assert pass_at_k_interval(10, [10] * 5, 1) == (pytest.approx(0.5655, abs=1e-4), 1.0)
    assert pass_at_k_interval(10, [0] * 5, 10) == (0.0, pytest.approx(0.4345, abs=1e-4))
    low, high = pass_at_k_interval(10, [3, 5, 9] * 10, 10)
    assert low < 0.9
    assert high == 1.0


@pytest.mark.parametrize(("counts", "k"), [([0, 3, 4], 4), ([4, 4], 4), ([1], 4), ([0, 0], 2)])
def test_the_interval_holds_the_estimate_and_is_the_same_each_time(counts, k):
    low, high = pass_at_k_interval(4, counts, k)
    assert 0 <= low <= pass_at_k(4, counts, k) <= high <= 1
    assert pass_at_k_interval(4, counts, k) == (low, high)


@pytest.mark.parametrize(("attempts", "counts", "k"), [(4, [1], 5), (4, [1], 0), (4, [], 1)])
def test_what_cannot_be_estimated_is_refused(attempts, counts, k):
    with pytest.raises(ValueError, match="needs at least"):
        pass_at_k_interval(attempts, counts, k)


def test_seeds_are_drawn_anew():
    """Of seeds at 0 and 1, a quarter of the draws has only the one, and a quarter only the other."""
    assert seed_mean_interval([[0, 0], [1, 1]]) == (0, 1)
    assert seed_mean_interval([[0.4, 0.4], [0.5, 0.5]]) == (pytest.approx(0.4), pytest.approx(0.5))


def test_questions_are_drawn_anew_and_the_same_for_all_seeds():
    """Of two questions, a quarter of the draws has one of them twice. Drawn for each seed, three would seldom agree: 1/64."""
    assert seed_mean_interval([[0, 1]]) == (0, 1)
    assert seed_mean_interval([[0, 1]] * 3) == (0, 1)


def test_the_interval_over_seeds_holds_the_truth_about_as_often_as_it_says():
    """Six seeds that differ by 0.1 and 60 questions that differ by 0.2: seeds drawn from themselves are a little too sure."""
    chance, held, trials = random.Random(2), 0, 50
    for _ in range(trials):
        hard = [chance.gauss(0.5, 0.2) for _ in range(60)]
        seeds = [chance.gauss(0, 0.1) for _ in range(6)]
        low, high = seed_mean_interval([[seed + question for question in hard] for seed in seeds])
        held += low <= 0.5 <= high
    assert CONFIDENCE - 0.12 <= held / trials <= 1


def test_a_difference_is_taken_question_by_question():
    """Whatever is drawn, the one is 0.3 above the other, though both vary by 0.8."""
    these, those = [[0.9, 0.1 + 0.3], [0.9, 0.1 + 0.3]], [[0.6, 0.1]]
    assert paired_difference_interval(these, those) == (pytest.approx(0.3), pytest.approx(0.3))
    assert seed_mean_interval(these).low == pytest.approx(0.4)


def test_the_seeds_of_a_difference_are_drawn_for_each_by_itself():
    """Two seeds at 0 and 1 on both sides: one in sixteen draws has 1 against 0, which is above 2.5 %."""
    assert paired_difference_interval([[0], [1]], [[0], [1]]) == (-1, 1)


def test_scores_all_alike_are_no_certainty():
    assert seed_mean_interval([[0.0] * 50] * 3) == wilson_interval(0, 50)
    assert wilson_interval(0, 50).high > 0.05


def test_tables_of_scores_that_do_not_fit_are_refused():
    for scores in ([], [[]], [[1], [1, 0]]):
        with pytest.raises(ValueError, match="a score of each seed for each question"):
            seed_mean_interval(scores)
    with pytest.raises(ValueError, match="needs the same questions"):
        paired_difference_interval([[1, 0]], [[1]])


@pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.7062), (3, 4.3027), (4, 3.1824), (5, 2.7764), (11, 2.2281)])
def test_the_interval_of_a_few_seeds_is_students(seeds, quantile):
    """0 and 1 in turn around their mean, against the printed table of t at 0.975."""
    values = [float(number % 2) for number in range(seeds)]
    low, high = student_interval(values)
    assert (low + high) / 2 == pytest.approx(sum(values) / seeds)
    assert (high - low) / 2 == pytest.approx(quantile * stdev(values) / seeds**0.5, rel=1e-4)
    assert student_interval(values[:1]) is None


def test_seeds_with_more_cases_weigh_more():
    """1 of 2 and 1 of 8: 2 of 10 in all, and equal shares of unequal counts are no spread."""
    assert sum(seed_contributions([1, 1], [2, 8])) / 2 == pytest.approx(0.2)
    assert seed_contributions([1, 4], [2, 8]) == pytest.approx([0.5, 0.5])
    assert seed_contributions([1, 2], [4, 4]) == pytest.approx([0.25, 0.5])
