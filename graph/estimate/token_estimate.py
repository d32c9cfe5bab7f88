"""Estimates how many completions and tokens an iteration and an evaluation sample, typically and at most."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Final

from events.facts.values import LEVELS
from graph.estimate.question_count import question_count
from graph.recipes.recipe import EpisodePlan
from graph.settings.config import Config
from roles.questions.question_set import Split

PROMPT_TOKENS: Final = 600
"""Tokens of a prompt on average; at most a quarter of what is allowed."""
COMPLETION_TOKENS: Final = 1000
"""Tokens of a completion on average; at most half of what is allowed."""
SILENT_SHARE: Final = 0.3
"""Share of the student's groups whose rewards are all equal, which are not trained on."""


@dataclass(frozen=True)
class TokenEstimate:
    """Completions, and how many tokens they and their prompts have."""

    proposals: float = 0
    answers: float = 0
    learned: float = 0
    """How many of them are trained on."""
    tokens: float = 0
    trained_tokens: float = 0
    """Tokens that are trained on, prompts included."""

    @property
    def completions(self) -> float:
        """Completions of teacher and student."""
        return self.proposals + self.answers


def tokens_of_iteration(config: Config, *, most: bool = False) -> TokenEstimate:
    """Completions and tokens of one iteration; of a plan with stages, the mean over the run's iterations.

    Typical: every seat has a question accepted after half of the further proposals that are allowed; the tasks of questions are
    equally frequent. At most: all proposals are made, and completions are as long as allowed.
    """
    left, stages = config.play.iterations, []
    for stage in config.algorithm().plan.stages:
        count = min(stage.iterations, left) if stage.then else left
        left -= count
        stages.append((count, _tokens_of_stage(config, stage, most=most)))
    if len(stages) == 1:
        return stages[0][1]
    total = sum(count for count, _ in stages) or 1
    names = [part.name for part in fields(TokenEstimate)]
    return TokenEstimate(**{name: sum(count * getattr(each, name) for count, each in stages) / total for name in names})


def real_questions(config: Config) -> int:
    """Real questions of an iteration: as many as `play.practice` says, or as there are."""
    shared = config.practice == "goalposts"
    split: Split = "goalposts" if shared else "train"
    count = question_count(config.goalposts if shared else config.practice, split)
    return config.play.practice if count is None else min(config.play.practice, count)


def pool_size(config: Config) -> int:
    """Most questions of a pool: one for each document and level; of `play.episodes` documents where nobody counted them yet."""
    count = question_count(config.documents.source, "documents")
    return len(LEVELS) * (config.play.episodes if count is None else count)


def _tokens_of_stage(config: Config, plan: EpisodePlan, *, most: bool) -> TokenEstimate:
    play = config.play
    guided, unguided = play.episodes * bool(plan.guided), pool_size(config) if plan.pools else play.episodes
    unguided *= bool(plan.seats("unguided"))
    tries = play.max_attempts if plan.rejection_sampling else 1
    proposals = (guided * len(plan.guided) + unguided) * (tries if most else (1 + tries) / 2)
    questions = guided * len(set(plan.guided) & set(plan.student_trains_on))
    induction = play.tasks.count("induction") / len(play.tasks)
    # Pass rates are measured by induction. Where the student learns another task of a question, it is answered anew for that;
    # where it learns induction, it learns from the attempts that measured the pass rate.
    answered_anew = questions * play.solve_attempts * (induction < 1 if most else 1 - induction)
    guided_answers = (
        questions * max(play.attempts, play.solve_attempts) if most else answered_anew + questions * play.attempts * induction
    )
    self_play = guided_answers + unguided * play.attempts * ("open" in plan.student_trains_on)
    practised = min(play.practice, pool_size(config)) if plan.plays_pool else play.practice * plan.real_data
    real_data = practised * play.practice_attempts
    voting = (unguided + practised) * config.documents.attempts if plan.labels == "informed" else 0
    surveyed = real_questions(config) * plan.survey.attempts if plan.survey else 0
    texts = real_questions(config) if plan.texts else 0
    # Where every proposal that can be asked is accepted, each episode has one question to answer.
    asked = 0 if plan.pools else unguided if plan.trials else proposals
    answers = play.gap_attempts * guided + play.attempts * asked + answered_anew + real_data + surveyed + voting
    taught = 0 if plan.pools else proposals
    told_apart = 1 if most else 1 - SILENT_SHARE
    learned = taught + (self_play + real_data) * told_apart + texts if plan.learns else 0
    if plan.trials:
        tried = config.trials
        trials = tried.sets * tried.students
        answers += tried.questions * (1 + trials)
        attempts = play.practice_attempts if plan.real_data else play.attempts
        steps = tried.later_steps if most else tried.steps
        learned = proposals + trials * steps * tried.questions_per_step * attempts / tried.students
    prompt = config.max_prompt_tokens if most else min(PROMPT_TOKENS, config.max_prompt_tokens / 4)
    proposal = _length(play.teacher.max_tokens, COMPLETION_TOKENS, most=most)
    answer = _length(play.student.max_tokens, COMPLETION_TOKENS, most=most)
    return TokenEstimate(
        proposals=proposals,
        answers=answers,
        learned=learned,
        tokens=proposals * proposal + answers * answer,
        trained_tokens=(taught * (prompt + proposal) + (learned - taught) * (prompt + answer)) if learned else 0,
    )


def tokens_of_evaluation(config: Config, *, most: bool = False) -> TokenEstimate:
    """Completions and tokens of one evaluation, if each set has as many questions as `evaluate.questions` allows."""
    how = config.evaluate
    answers = how.questions * how.attempts * sum(spec != "none" for spec in (config.goalposts, config.test, config.validation))
    return TokenEstimate(answers=answers, tokens=answers * _length(how.sampling.max_tokens, COMPLETION_TOKENS, most=most))


def count_iterations(config: Config, *, most: bool = False) -> int:
    """Iterations that are played: `play.iterations`, or fewer until `play.samples` are spent."""
    play, each = config.play, tokens_of_iteration(config, most=most).answers
    return min(play.iterations, math.ceil(play.samples / each)) if play.samples and each else play.iterations


def count_evaluations(config: Config) -> int:
    """Evaluations at the start, at the end, and between."""
    last, every, samples = count_iterations(config), config.evaluate.every, config.evaluate.every_samples
    each = Fraction(tokens_of_iteration(config).answers)
    # Of the iterations before the last, those that are a multiple of `every`, and those that complete another `samples`.
    regular = max(0, last - 1) // every if every else 0
    completing = both = 0
    if samples and each >= samples:
        completing, both = max(0, last - 1), regular
    elif samples and last:
        completing = int(each * (last - 1) // samples)
        # The i-th iteration completes another `samples` where floor(i * part) exceeds floor((i - 1) * part); `both` sums that
        # over the multiples of `every`, which would otherwise count twice.
        part, step = each / samples, every * each / samples
        both = _floors(regular, step, step) - _floors(regular, step, step - part)
    return len({0, last}) + regular + completing - both - (last > 0 and not config.evaluate.first)


def _floors(count: int, step: Fraction, start: Fraction) -> int:
    """The sum of floor(start + i * step) over i from 0 to count - 1, without counting (as Euclid's algorithm does)."""
    below = step.denominator * start.denominator
    times, plus = int(step * below), int(start * below)
    total = 0
    while True:
        total += count * (count - 1) // 2 * (times // below) + count * (plus // below)
        times, plus = times % below, plus % below
        top = times * count + plus
        if top < below:
            return total
        count, plus, below, times = top // below, top % below, times, below


def _length(allowed: int, usual: int, *, most: bool) -> float:
    return allowed if most else min(usual, allowed / 2)
