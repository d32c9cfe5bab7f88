"""The facts: one frozen class per kind of event, past tense, in one discriminated union.

Guarantees:
- A fact holds what happened and nothing measured by a clock or a machine (see `events.facts.log.Event`).
- Texts, questions and token arrays are blobs; facts hold their hashes.
- A changed shape gets a new `SCHEMA` number and an upcaster, so that old facts stay readable.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from events.facts.certainty_facts import CalibrationFinished, TextGiven
from events.facts.drawn_facts import DocumentDrawn, PoolMade, ReferencesDrawn
from events.facts.fact import Fact
from events.facts.label_facts import LabelVoted
from events.facts.trial_facts import StudentPromoted, TrialExamined, TrialLearned, TrialStarted
from events.facts.values import (
    Axis,
    BlobHash,
    Digest,
    EpisodePurpose,
    Generation,
    GgufFile,
    OptimizerStep,
    Phase,
    Provenance,
    QuestionId,
    Role,
    Sampling,
    Seat,
    SourceLog,
    Task,
    Verdict,
)
from events.facts.weight_facts import WeightsPruned

Purpose = Literal["gap", "label", "pass_rate", "solve", "practice", "evaluation"]
"""The purpose of attempts. `label`: to vote on outputs, with the document that the question is about."""
Reason = Literal[
    "malformed", "unsafe", "broken", "nondeterministic", "degenerate", "copied", "ungrounded",
    "not_novel", "too_easy", "too_hard",
]  # fmt: skip
"""Why a proposal was rejected. `broken`: the program fails on its own inputs. `copied`: its words are the document's.
`ungrounded`: it asks for what the document does not hold."""


class RunStarted(Fact):
    """A run began; the log explains itself from here."""

    SCHEMA: ClassVar[int] = 2
    kind: Literal["run_started"] = "run_started"
    config: dict[str, Any]
    """The resolved configuration."""
    versions: dict[str, str]
    """Version of Python and of every package that can change a result."""
    commit: str
    """Git commit of the code, or `unknown`."""
    policies: dict[Role, Digest]
    """Weights that each role starts with."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """Content digests of question sets and prompts, by name."""
    sources: tuple[SourceLog, ...] = ()
    """Logs that it learns from, in this order; empty where it plays itself, and in logs of schema 1."""
    dequantised: Annotated[GgufFile | None, Field(exclude_if=lambda file: file is None)] = None
    """The file that its first weights were dequantised from; None where they were taken as they are."""


class RunResumed(Fact):
    """A stopped run goes on."""

    kind: Literal["run_resumed"] = "run_resumed"
    position: int
    """Last position before the resume."""


class GoalpostAdded(Fact):
    """A goalpost was recorded."""

    kind: Literal["goalpost_added"] = "goalpost_added"
    question: QuestionId
    """The goalpost's question id, which is also its name."""
    blob: BlobHash
    """The question."""
    source: str
    """Name of the question set it comes from."""


class IterationStarted(Fact):
    """An iteration began: its episodes play with these policies."""

    kind: Literal["iteration_started"] = "iteration_started"
    iteration: int
    """Counts from 1."""
    policies: dict[Role, Digest]
    """Weights in use."""
    episodes: int
    """Episodes of all purposes together."""


class EpisodeStarted(Fact):
    """An episode began."""

    kind: Literal["episode_started"] = "episode_started"
    iteration: int
    """Iteration it belongs to."""
    purpose: EpisodePurpose
    """What it is for."""
    question: QuestionId
    """The goalpost, the first reference, or the practice question."""
    blob: BlobHash
    """That question."""
    axis: Axis
    """Drawn per episode and kept for its lift."""
    seed: int
    """All seeds of the episode derive from it."""
    topic: Annotated[str, Field(exclude_if=lambda topic: not topic)] = ""
    """What the open seat was asked to write about; `question` is then an example of it. Empty where it has no topic."""
    set: Annotated[int, Field(exclude_if=lambda number: not number)] = 0
    """The set of questions that a student is tried on, from 1; 0 where there are no trials."""


class GapMeasured(Fact):
    """The student tried the goalpost itself."""

    kind: Literal["gap_measured"] = "gap_measured"
    question: QuestionId
    """The goalpost."""
    successes: int
    """Attempts that passed all tests."""
    attempts: int
    """Attempts made."""
    best_share: float
    """Largest share of tests that one attempt passed, 0 to 1."""
    gap: float
    """1 - successes / attempts."""


class QuestionProposed(Fact):
    """The teacher proposed a lemma, a lift or an open question."""

    SCHEMA: ClassVar[int] = 2
    kind: Literal["question_proposed"] = "question_proposed"
    seat: Seat
    """Which seat proposed."""
    attempt: int
    """Counts from 1 within the episode and seat."""
    parent: QuestionId
    """The goalpost of a lemma, the lemma of a lift, the first reference of an open question."""
    generation: Generation
    """The teacher's completion (one)."""


class QuestionRejected(Fact):
    """A proposal was rejected."""

    kind: Literal["question_rejected"] = "question_rejected"
    seat: Seat
    """Which seat had proposed."""
    reason: Reason
    """Why it was rejected."""
    detail: str = ""
    """The same in words, at most 200 characters; hostile text."""
    question: QuestionId | None = None
    """The question, if the proposal got far enough to be one."""
    blob: BlobHash | None = None
    """That question."""


class QuestionValidated(Fact):
    """A proposal is well-formed, safe, deterministic, not degenerate and novel. Its pass rate is not known yet."""

    kind: Literal["question_validated"] = "question_validated"
    seat: Seat
    """Which seat proposed it."""
    question: QuestionId
    """Its id."""
    blob: BlobHash
    """The question, with its pairs split in public and private."""
    similarity: float
    """Largest cosine similarity to an accepted question, 0 when there is none."""
    aligned: bool | None
    """Whether statement and program agree by the pocket world's ground truth; None elsewhere."""


class QuestionAccepted(Fact):
    """A validated question fell into its band, or the recipe has none."""

    kind: Literal["question_accepted"] = "question_accepted"
    seat: Seat
    """`easy`: it is now a lemma. `hard`: it is now a lift. `open`: it may now be drawn as a reference."""
    question: QuestionId
    """Its id."""
    blob: BlobHash
    """The question."""
    axis: Axis
    """The axis it was asked to vary."""


class AttemptsMade(Fact):
    """The student answered a question `count` times."""

    SCHEMA: ClassVar[int] = 2
    kind: Literal["attempts_made"] = "attempts_made"
    purpose: Purpose
    """Why they were made."""
    question: QuestionId
    """Which question."""
    task: Task
    """In which form it was asked."""
    pair: int | None = None
    """Deduction and abduction: index of the asked pair in `Question.pairs`."""
    generation: Generation
    """The student's completions."""


class AttemptsVerified(Fact):
    """The verifier judged the attempts of an earlier event in this stream."""

    SCHEMA: ClassVar[int] = 3
    kind: Literal["attempts_verified"] = "attempts_verified"
    of: int
    """Version of the `AttemptsMade` in this stream."""
    verdicts: tuple[Verdict, ...]
    """One an attempt, in order."""
    provenance: Provenance
    """Image, limits and rules."""


class PassRateMeasured(Fact):
    """The student's pass rate on a proposed question was measured."""

    kind: Literal["pass_rate_measured"] = "pass_rate_measured"
    seat: Seat
    """Which seat proposed the question."""
    question: QuestionId
    """Which question."""
    successes: int
    """Attempts that passed; bands are integer bands on this count."""
    attempts: int
    """Attempts made."""
    agreeing: Annotated[int, Field(exclude_if=lambda count: not count)] = 0
    """Failed attempts that gave the same outputs for all private inputs, if there are three or more and more than passed: the
    statement may then not describe the program. Else, and in older logs, 0."""


class RewardGiven(Fact):
    """The recipe rewarded the completions of an earlier event in this stream. Exactly these are trained on."""

    kind: Literal["reward_given"] = "reward_given"
    of: int
    """Version of the `QuestionProposed` or `AttemptsMade` in this stream."""
    phase: Phase
    """Which optimizer step of the iteration it feeds."""
    role: Role
    """Who wrote the completions, hence which policy learns."""
    task: Seat | Task
    """The student's task; the teacher's seat, or for an open question its task. Role and task are TRR++'s group."""
    rewards: tuple[float, ...]
    """One a completion, in order."""
    set: Annotated[int, Field(exclude_if=lambda number: not number)] = 0
    """The set that the question belongs to: it teaches a student in trials, and the policy if one of these is promoted."""


class EpisodeFinished(Fact):
    """An episode came to its end."""

    kind: Literal["episode_finished"] = "episode_finished"
    reason: Literal["played", "goalpost_solved", "no_lemma", "no_lift", "no_question"]
    """`played`: every seat had a question accepted, or the real question was answered. `no_question`: the open seat had none
    accepted."""


class EpisodeFailed(Fact):
    """An episode was aborted by an infrastructure error. Nothing of it is trained on; other episodes go on."""

    kind: Literal["episode_failed"] = "episode_failed"
    error: str
    """Class of the error."""
    message: str
    """Its message."""


class IterationFinished(Fact):
    """Every episode of an iteration has ended: the trainer may learn from it."""

    kind: Literal["iteration_finished"] = "iteration_finished"
    iteration: int
    """Counts from 1."""
    finished: int
    """Episodes that finished."""
    failed: int
    """Episodes that failed."""
    cross_share_repeats: Annotated[int, Field(exclude_if=lambda count: not count)] = 0
    """Accepted questions that are too similar to one that another share accepted in the same iteration."""


class PolicyUpdated(Fact):
    """A policy was updated from an iteration. This append is the commit point of the update."""

    SCHEMA: ClassVar[int] = 2
    kind: Literal["policy_updated"] = "policy_updated"
    policy: str
    """`shared`, `teacher` or `student`."""
    parent: Digest
    """Weights before."""
    digest: Digest
    """Weights after; stored under `weights/<digest>`."""
    iteration: int
    """Iteration it learned from."""
    after: int
    """Consumed positions are those > `after` ..."""
    until: int
    """... and <= `until`."""
    source: int = 0
    """Which log the positions are of: 0 is this one, n the n-th of the run's sources."""
    samples: str
    """SHA-256 of the sample stream; a replay must find the same."""
    step: int
    """Optimizer steps taken since the run began."""
    steps: tuple[OptimizerStep, ...]
    """Each optimizer step."""
    optimizer: Digest | None = None
    """SHA-256 of the optimizer's state beside the weights; None where there is none, and in logs of schema 1."""
    advantage_estimator: Annotated[str, Field(exclude_if=lambda name: not name)] = ""
    """What made advantages of the rewards, a name in `events.pure.advantages`; empty in older logs."""
    set: Annotated[int, Field(exclude_if=lambda number: not number)] = 0
    """The set whose student was promoted; of other sets it learned nothing. 0 where there was no promotion."""


class PolicyProbed(Fact):
    """The trainer recorded its logprobs of a fixed text, with which the weight-sync check compares the server's."""

    kind: Literal["policy_probed"] = "policy_probed"
    digest: Digest
    """The weights."""
    tokens: tuple[int, ...]
    """Token ids of the text."""
    logprobs: tuple[float, ...]
    """Natural-log probability, at temperature 1, of each token but the first after those before it."""


class PolicyServed(Fact):
    """A role's model passed the weight-sync check: it serves these weights."""

    SCHEMA: ClassVar[int] = 2
    kind: Literal["policy_served"] = "policy_served"
    role: Role
    """Whose model it is."""
    policy: Digest
    """Weights now in use."""
    difference: float | None = None
    """Largest difference between its logprobs and the trainer's over the checked tokens, in nats; None in logs of schema 1."""
    mean_difference: float | None = None
    """Mean of the differences, in nats."""


class EvaluationFinished(Fact):
    """A policy was evaluated on a question set."""

    SCHEMA: ClassVar[int] = 2
    kind: Literal["evaluation_finished"] = "evaluation_finished"
    name: str
    """The question set, e.g. `test` or `goalposts`; a suffix (`test-1f3c9a`) is a hash of settings unlike the run's."""
    iteration: int
    """Iterations learned from so far; 0 is the start."""
    policy: Digest
    """The evaluated weights."""
    sampling: Sampling
    """How completions were sampled."""
    attempts: int
    """Attempts a question."""
    successes: dict[QuestionId, int]
    """Passed attempts by question."""
    pass_at: dict[int, float]
    """Unbiased pass@k, mean over questions."""


class RunFinished(Fact):
    """A run is over."""

    kind: Literal["run_finished"] = "run_finished"
    iterations: int
    """Iterations played."""


_StartFact = RunStarted | RunResumed | GoalpostAdded | IterationStarted | EpisodeStarted | GapMeasured
_DrawnFact = ReferencesDrawn | DocumentDrawn | PoolMade
_QuestionFact = QuestionProposed | QuestionRejected | QuestionValidated | QuestionAccepted | AttemptsMade | AttemptsVerified
_ResultFact = LabelVoted | TextGiven | PassRateMeasured | RewardGiven | EpisodeFinished | EpisodeFailed | IterationFinished
_PolicyFact = PolicyUpdated | PolicyProbed | WeightsPruned | PolicyServed | RunFinished
_ExamFact = EvaluationFinished | CalibrationFinished | TrialStarted | TrialLearned | TrialExamined | StudentPromoted
_PlayFact = _StartFact | _DrawnFact | _QuestionFact | _ResultFact
AnyFact = Annotated[_PlayFact | _PolicyFact | _ExamFact, Field(discriminator="kind")]
