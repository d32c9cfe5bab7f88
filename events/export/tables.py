"""The tables of exports, a class for the rows of each, in which every column has its type and its meaning.

Frames, Parquet, JSONL, datasets and their cards follow these classes. Rows hold no times, so that equal logs give equal rows.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict

from events.facts.types import Purpose, Reason
from events.facts.values import Axis, Digest, IOPair, Level, Outcome, Phase, QuestionId, Role, Seat, Task, Value
from events.text.safe_text import printable

_HALVES = re.compile("[\ud800-\udfff]")

Text = Annotated[str, BeforeValidator(lambda text: _HALVES.sub("\N{REPLACEMENT CHARACTER}", text))]
"""Untrusted text. Lone surrogates are replaced, because no format can hold them; the rest stays."""

Name = Annotated[str, BeforeValidator(printable)]
"""Untrusted text that becomes the name of a column."""


class TableRow(Value):
    """A row of any table."""

    model_config = ConfigDict(arbitrary_types_allowed=True, use_attribute_docstrings=True)

    run: Text
    """Name of the run."""
    position: int
    """Position of the event that the row is about."""
    stream: str
    """Stream of that event; an episode has a stream of its own."""

    def columns(self) -> dict[str, Any]:
        """Values by column: plain ones, arrays, and lists of plain dictionaries."""
        return dict(self.__dict__)


class AttemptRow(TableRow):
    """A completion that was sampled: the student's answer to a question, or the teacher's proposal of one."""

    version: int
    """Version of the event that holds the completion; `stream`, `version` and `index` name the completion."""
    index: int
    """Index among the completions of its prompt, from 0."""
    iteration: int | None = None
    """Iteration that it was played in; in an evaluation, iterations learned from before, or null while it goes on."""
    ending: str | None = None
    """Why the episode ended. Nothing is learned from `failed` ones. Null while it goes on, and in an evaluation."""
    purpose: Purpose | Literal["proposal"]
    """What it was sampled for."""
    role: Role
    """Who wrote it."""
    task: Task | Seat
    """The student's task, or the teacher's seat."""
    pair: int | None = None
    """In deduction and abduction, index of the test case that was asked, public ones counted first."""
    question: QuestionId
    """The question that was asked; of a proposal, the question that it is a variant of."""
    prompt: Text
    """The prompt as it was sent."""
    completion: Text
    """The completion, decoded without its end token."""
    prompt_ids: NDArray[np.int32]
    """The prompt's tokens, as the model saw them."""
    completion_ids: NDArray[np.int32]
    """The completion's tokens, as they were sampled, with the end token if there was one."""
    logprobs: NDArray[np.float32]
    """Natural-log probability of each of them under the sampling distribution; 0 where the token was given."""
    sampled: NDArray[np.bool_]
    """Of each token whether it was sampled; nothing is learned from one that was given."""
    reward: float | None = None
    """What the recipe gave; null where nothing is learned from the completion."""
    reward_position: int | None = None
    """Position of the reward in the log. The update that consumed it (`after` < position <= `until`) learned from it."""
    phase: Phase | None = None
    """Which optimizer step of the iteration the reward feeds."""
    outcome: Outcome | None = None
    """The verifier's verdict on an answer; null for proposals, and before there is one."""
    passed: int | None = None
    """Tests passed."""
    total: int | None = None
    """Tests there were."""
    detail: str | None = None
    """The verdict in words."""
    tests: str | None = None
    """What came of each test, a letter each (`events.facts.values.OUTCOME_LETTERS`); null also in logs of older schemas."""
    confidence: float | None = None
    """Geometric mean of the probabilities of the answer's tokens, where an evaluation asked the student if it is sure."""
    certainty: float | None = None
    """P(sure) / (P(sure) + P(unsure)) when the student was asked."""
    container: str | None = None
    """Digest of the container image in which the verdict was reached."""
    policy: Digest
    """Digest of the weights that sampled it."""
    template: str
    """Hash of the file that the prompt was rendered from."""
    seed: int
    """Seed of the request, which is common to all completions of the prompt."""
    temperature: float
    """Sampling temperature."""
    top_p: float
    """Nucleus mass; 1 keeps the whole distribution."""
    max_tokens: int
    """Most tokens that the completion could have."""
    stop: tuple[str, ...]
    """Texts that end a completion."""


class QuestionRow(TableRow):
    """An appearance of a question: a goalpost, a proposal of the teacher (well-formed or not), or a question of real data."""

    version: int
    """Version of the event; the proposal's completion has the same stream and version among the attempts."""
    iteration: int | None = None
    """Iteration that it appeared in; null for goalposts."""
    ending: str | None = None
    """Why its episode ended; null while it goes on, and for questions that are no proposals."""
    origin: Literal["goalpost", "lemma", "lift", "open", "practice", "document"]
    """What it is, or was to become."""
    source: str | None = None
    """Name of the question set that a goalpost comes from."""
    seat: Seat | None = None
    """The teacher's seat that proposed it."""
    attempt: int | None = None
    """Counts the seat's proposals in the episode, from 1."""
    axis: Axis | None = None
    """What the teacher was asked to vary."""
    parent: QuestionId | None = None
    """The goalpost of a lemma, the lemma of a lift."""
    question: QuestionId | None = None
    """Content id: equal questions have equal ids. Null if the proposal was no question."""
    statement: str | None = None
    """What is asked, in words."""
    program: str | None = None
    """Reference program."""
    entry: str | None = None
    """Function to call."""
    mode: str | None = None
    """How inputs reach the program: `function` or `stdin`."""
    public: tuple[IOPair, ...] | None = None
    """Test cases that the student is shown."""
    private: tuple[IOPair, ...] | None = None
    """Test cases that only the verifier sees."""
    context: str | None = None
    """Imports and helpers that stand before every answer."""
    set: int | None = None
    """The set that it belongs to, where sets are tried."""
    accepted: bool | None = None
    """Whether the proposal was accepted; null before it is judged, and for questions that are no proposals."""
    reason: Reason | None = None
    """Why it was rejected."""
    detail: str | None = None
    """The same in words."""
    similarity: float | None = None
    """Largest cosine similarity to an accepted question."""
    aligned: bool | None = None
    """Whether statement and program agree, where the world can say."""
    successes: int | None = None
    """Attempts of the student that passed."""
    attempts: int | None = None
    """Attempts that measured the pass rate."""
    agreeing: int = 0
    """Those that failed with the same outputs for all private inputs, if three or more did and more than passed."""
    pass_rate: float | None = None
    """The one divided by the other: successes / attempts."""
    reward: float | None = None
    """What the recipe gave the teacher."""
    votes: int | None = None
    """Answers in the largest group with equal outputs, where answers voted on the label."""
    runner_up: int | None = None
    """Answers in the second largest group; as many as `votes` is a tie."""
    labelled: bool | None = None
    """Whether the vote gave a label."""
    label_agrees: bool | None = None
    """Whether the label equals the outputs of the proposal's own program."""
    label_right: bool | None = None
    """Whether the label equals the truth, where the world knows it."""
    document: QuestionId | None = None
    """The document that the proposal is about, which has a row of its own, with its text as `statement`."""
    level: Level | None = None
    """How difficult it was to be for who does not see the document."""
    votes_alone: int | None = None
    """Answers in the largest group of those that did not see the document; they do not decide the label."""
    right_alone: bool | None = None
    """Whether their outputs equal the truth, where the world knows it."""

    def columns(self) -> dict[str, Any]:
        """See `TableRow.columns`."""
        sides = {"public": self.public, "private": self.private}
        plain = {name: None if side is None else [pair.model_dump() for pair in side] for name, side in sides.items()}
        return super().columns() | plain


class TextRow(TableRow):
    """A text that was given to the student to learn, which nobody sampled."""

    version: int
    """Version of the event in its stream."""
    iteration: int | None = None
    """Iteration in which it was given."""
    question: QuestionId
    """The question that it answers."""
    prompt: Text
    """The prompt before it."""
    completion: Text
    """The text, decoded."""
    certain: bool | None = None
    """Whether it says that its answer is certain; null where it says nothing of that."""
    prompt_ids: NDArray[np.int32]
    """The prompt's tokens."""
    completion_ids: NDArray[np.int32]
    """The text's tokens."""
    learned: NDArray[np.bool_]
    """Of each of them whether it is learned, or only read."""


class TrialRow(TableRow):
    """A trial: a student that was trained on a set of questions and answered goalposts before and after."""

    iteration: int
    """Iteration whose episodes made the set."""
    set: int
    """The set, from 1."""
    student: int
    """Which of the students that were tried on the set, from 1."""
    policy: Digest
    """Digest of the weights after the training."""
    questions: int
    """Goalposts asked, each once and greedily."""
    before: int
    """Those that passed before the training."""
    after: int
    """Those that passed after it."""
    gain: float
    """(after - before) / questions."""
    promoted: bool
    """Whether this student took the place of the policy."""


class UpdateRow(TableRow):
    """An update of a policy. It learned from the attempts whose `reward_position` is behind `after` and up to `until`."""

    policy: str
    """Name of the policy: `shared`, `teacher` or `student`."""
    iteration: int
    """Iteration that it learned from."""
    parent: Digest
    """Digest of the weights before."""
    digest: Digest
    """Digest of the weights after."""
    after: int
    """It consumed the positions behind this one ..."""
    until: int
    """... up to this one."""
    sample_digest: str
    """SHA-256 of the stream of samples that it saw."""
    advantage_estimator: Text = ""
    """What made advantages of the rewards; empty in older logs."""
    set: int = 0
    """The set whose student was promoted by it; 0 where none was."""
    step: int
    """Optimizer steps taken since the run began."""
    groups: int
    """Prompts whose completions were rewarded."""
    silent_groups: int
    """Those of them with zero advantage."""
    samples: int
    """Completions that were computed."""
    tokens: int
    """Their tokens."""
    reward: float | None = None
    """Mean of the steps' mean rewards, weighted by their groups."""
    metrics: dict[Name, float]
    """Figures of an optimizer step, a column each, e.g. `lemma/loss`; null where the phase took no step."""

    def columns(self) -> dict[str, Any]:
        """See `TableRow.columns`."""
        columns = super().columns()
        del columns["metrics"]
        return columns | self.metrics


class GapRow(TableRow):
    """A measure of the gap between the student and a goalpost, by an episode or by an evaluation."""

    iteration: int
    """Iteration of the episode; for an evaluation, iterations learned from before."""
    question: QuestionId
    """The goalpost."""
    policy: Digest | None = None
    """Digest of the student's weights."""
    successes: int
    """Attempts that passed all tests."""
    attempts: int
    """Attempts made."""
    best_share: float | None = None
    """Largest share of tests that one attempt passed; null in an evaluation."""
    gap: float
    """1 - successes / attempts."""
