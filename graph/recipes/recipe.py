"""The contract of a recipe: an algorithm by name, as an episode plan and pure functions from facts to rewards.

A recipe samples nothing, stores nothing and sees no tokens, so a recorded run can be re-credited under another recipe.
Defaults are the paper's (arXiv 2603.15957).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from events.facts.types import Reason
from events.facts.values import Axis, EpisodePurpose, LabelSource, Level, Seat, Task, Verdict
from events.pure.advantages import EstimatorName

Band = Literal["too_hard", "in_band", "too_easy"]
"""Where a pass rate lies relative to the band in which a seat's proposals are accepted."""


PoolOrder = Literal["by_level", "shuffled"]
"""The order of a pool: the easy levels first and random within a level, or random."""


CERTAINTY_TOKENS: Final = 64
"""Tokens kept free behind an answer for the question whether it is certain, and the reply."""


@dataclass(frozen=True)
class Survey:
    """How the student answers training questions before it learns anything; nothing is learned from these answers."""

    attempts: int = 1
    """Answers to each question."""
    temperature: float = 0.0
    """0: greedy."""


@dataclass(frozen=True)
class GivenTexts:
    """What the student is given to learn for each training question: its program as an answer, and how certain that is."""

    certain: Literal["unsaid", "passed", "agreeing"] = "unsaid"
    """Which answers are certain. `passed`: those of questions whose surveyed answer passed. `agreeing`: those of the half of
    the questions whose surveyed answers have the lower entropy. `unsaid`: the question does not arise."""
    refusals: tuple[str, ...] = ()
    """Texts of which one stands in the place of an uncertain answer. Empty: the answer stands there, and behind every answer
    whether it is certain."""

    @property
    def says_certainty(self) -> bool:
        """Whether the text says how certain its answer is."""
        return self.certain != "unsaid" and not self.refusals


@dataclass(frozen=True)
class Trials:
    """How the questions of an iteration are tried: in sets, each by a short training of the student from its present weights.

    A student that was tried is examined on goalposts, and then given up unless it is promoted; the settings `trials` have the
    numbers. What the student learns from outside of trials is left to other recipes.
    """

    reward_gain: bool = True
    """Whether a proposal earns the gain of its set on the goalposts; otherwise what the recipe gives for its pass rate."""


@dataclass(frozen=True)
class EpisodePlan:
    """Which episodes an iteration has, and what is trained on. The defaults are GASP's.

    A plan that changes with the iteration is a chain of stages, each a plan of its own; what comes before `iterations` and
    `then` holds for the one stage.
    """

    guided: tuple[Seat, ...] = ("easy", "hard")
    """Seats that propose, one after the other, in an episode with a goalpost: the easy seat varies the goalpost, the hard seat
    the lemma. Empty: there are no such episodes."""
    hard_seat_sees_goalpost: bool = False
    """Whether the hard seat is shown the goalpost too."""
    references: int = 0
    """Questions that the open seat is shown in an episode without a goalpost, drawn from training questions and accepted open
    questions. 0: there are no such episodes."""
    topics: bool = False
    """Whether the open seat writes about a topic instead, and is shown no references."""
    documents: bool = False
    """Whether the open seat writes about documents instead, at a level each."""
    pools: PoolOrder | None = None
    """Whether what it writes about each document and level becomes a pool, in this order, without being tried or rewarded."""
    plays_pool: bool = False
    """Whether the student learns from the questions of the pool, in its order."""
    labels: LabelSource = "question"
    """What answers to the teacher's questions are compared with; by the truth or by a vote, its programs count for nothing."""
    seeds: int = 0
    """Most training questions that references are drawn from."""
    real_data: bool = False
    """Whether real questions are trained on (real-data RL)."""
    survey: Survey | None = None
    """How real questions are answered without being trained on; None: they are not."""
    texts: GivenTexts | None = None
    """What the student is given to learn for real questions; None: nothing."""
    trials: Trials | None = None
    """How sets of the iteration's questions are tried on the student; None: it learns from them at once."""
    axes: tuple[Axis, ...] = ("io", "function")
    """Axes that each episode's axis is drawn from."""
    rejection_sampling: bool = True
    """Whether a seat proposes until a proposal is novel and in its band, and nothing else is accepted (rejection sampling).
    Otherwise it proposes once, and whatever can be asked is accepted."""
    student_trains_on: tuple[Seat, ...] = ("easy", "hard", "open")
    """Seats whose accepted questions the student learns from."""
    learns: bool = True
    """Whether weights are updated."""
    iterations: int = 0
    """Iterations of this stage, where another one follows."""
    then: EpisodePlan | None = None
    """The next stage; None: this one lasts to the end."""

    @property
    def stages(self) -> tuple[EpisodePlan, ...]:
        """The stages from here on, itself the first."""
        return (self, *(self.then.stages if self.then else ()))

    @property
    def uses_real_questions(self) -> bool:
        """Whether this stage plays real questions."""
        return self.real_data or self.survey is not None or self.texts is not None

    def at(self, iteration: int) -> EpisodePlan:
        """The stage of an iteration, which counts from 1."""
        if self.then is None or iteration <= self.iterations:
            return self
        return self.then.at(iteration - self.iterations)

    def seats(self, purpose: EpisodePurpose) -> tuple[Seat, ...]:
        """Seats that propose, one after the other, in an episode of this purpose."""
        match purpose:
            case "guided":
                return self.guided
            case "unguided":
                return ("open",) if self.references or self.topics or self.documents else ()
            case "practice":
                return ()


class Recipe(Protocol):
    """An algorithm. Implementations in `graph/recipes/`, one a file."""

    @property
    def plan(self) -> EpisodePlan:
        """The episodes that it plays."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of a run, by dotted key, that the paper names; they hold where nothing else is set."""
        ...

    @property
    def advantage_estimator(self) -> EstimatorName:
        """What makes advantages of the rewards of an iteration, unless `learn.credit` names another."""
        ...

    def band(self, seat: Seat, successes: int, attempts: int) -> Band:
        """The band of a proposal's pass rate; with rejection sampling, only `in_band` is accepted."""
        ...

    def teacher_reward(self, seat: Seat, successes: int, attempts: int, level: Level | None = None) -> float:
        """Reward of a proposal whose pass rate was measured, inside or outside its band; `level`: that which was asked for."""
        ...

    def rejection_reward(self, reason: Reason) -> float | None:
        """Reward of a proposal that was rejected without attempts; None: it is masked, so that nothing is learned from it."""
        ...

    def student_reward(self, verdict: Verdict, task: Task) -> float:
        """Reward of one attempt."""
        ...
