"""Values that travel between the packages: ids, questions, generations, verdicts.

Guarantees: every value is frozen and closed (unknown fields are errors), and holds plain data only, so that it can be hashed,
logged and read again in ten years.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, NewType

from pydantic import BaseModel, ConfigDict, Field

BlobHash = NewType("BlobHash", str)
"""SHA-256 (hex) of a blob's uncompressed content."""
QuestionId = NewType("QuestionId", str)
"""First 16 hex digits of the question's blob hash: equal questions have equal ids."""
Digest = NewType("Digest", str)
"""SHA-256 (hex) of a policy's weights; its folder is `weights/<digest>`."""

EpisodePurpose = Literal["guided", "unguided", "practice"]
"""What an episode is for: `guided`: goalpost to lemma to lift. `unguided`: a question without a goalpost. `practice`: real-data
RL."""
Axis = Literal["io", "function"]
"""What a variant varies: the instances (`io`) or the mapping itself (`function`). Paper, section 3.2."""
Phase = Literal["lemma", "lift", "open", "solve", "practice", "text"]
"""The part of an iteration that a reward belongs to, or `text` for given texts; the trainer learns phase by phase, in this
order."""
Seat = Literal["easy", "hard", "open"]
"""The teacher's seats: `easy` proposes lemmas, `hard` proposes lifts, `open` proposes questions without a goalpost."""
Task = Literal["induction", "deduction", "abduction"]
"""The form in which a question is asked: find the program, the output, or an input."""
Role = Literal["teacher", "student"]
"""Who sampled a generation; also the name of the policy that a role plays with."""
Outcome = Literal[
    "passed",
    "wrong_answer",
    "runtime_error",
    "syntax_error",
    "time_limit",
    "memory_limit",
    "output_limit",
    "forbidden",
    "tampered",
    "malformed",
]
"""The verifier's finding. `malformed`: the completion held no answer of the asked form."""
OUTCOME_LETTERS: Mapping[str, Outcome] = MappingProxyType(
    {
        ".": "passed",
        "w": "wrong_answer",
        "r": "runtime_error",
        "s": "syntax_error",
        "t": "time_limit",
        "m": "memory_limit",
        "o": "output_limit",
        "f": "forbidden",
        "x": "tampered",
    }
)
"""The outcome that a letter of `Verdict.tests` stands for. Letters, because a log holds a million tests."""
OutcomeLetters = Annotated[str, Field(pattern=f"^[{''.join(OUTCOME_LETTERS)}]*$")]
"""Outcomes of tests, a letter of `OUTCOME_LETTERS` each."""
JudgingRules = Literal["own", "livecodebench", "evalplus"]
"""How answers are run, and which values count as right: docs/verdicts.md."""
LabelSource = Literal["question", "vote", "informed", "truth"]
"""Where the outputs come from that answers must have. `question`: the question. `vote`: the answers themselves. `informed`: a
vote of other answers, whose prompt held the document that the question is about. `truth`: the program that its statement stands
for, where the world knows it."""
Level = Literal["easy", "medium", "hard"]
"""How difficult a question about a document is to be for who does not see it."""
LEVELS: tuple[Level, ...] = ("easy", "medium", "hard")
"""All of them, the easy one first."""
NoSignalReason = Literal["all_right", "all_wrong", "alone", "average", "empty", "untaught"]
"""Why a completion has advantage 0. `all_right`, `all_wrong`: all of its group have the same reward, above 0 or not. `alone`:
its group has no other. `average`: its reward is the mean. `empty`: it has no tokens. `untaught`: the teacher's advantages are
scaled to 0."""


class Value(BaseModel):
    """A frozen, closed value."""

    # Validators are built at first use: a command meets few of the kinds of facts.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", defer_build=True)


def canonical(value: BaseModel) -> bytes:
    """The one JSON text of a value (sorted keys, no spaces, ASCII), as it is hashed and stored."""
    # As `model_dump`, whose many options cost half as much again.
    return _ENCODE(value.__pydantic_serializer__.to_python(value, mode="json")).encode()


# `json.dumps` would make an encoder for every value. Plain values hold no circles.
_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False).encode


class GgufFile(Value):
    """A GGUF file whose weights were dequantised to float32."""

    name: str
    """Its name, without its folder."""
    digest: str
    """SHA-256 (hex) of its bytes."""
    types: dict[str, int]
    """Number of tensors by quantisation type, such as `Q4_K` or `F32`."""
    converter: str
    """The package that dequantised them, with its version."""


class IOPair(Value):
    """An input and the output that a right program gives for it."""

    input: str
    """Mode `function`: the arguments as Python literals, comma separated (`'ab', 3`). Mode `stdin`: the input text. Mode
    `checks`: code that raises where the program is wrong."""
    output: str
    """Mode `function`: the returned value as a Python literal. Mode `stdin`: what is printed. Mode `checks`: nothing."""


class Question(Value):
    """A statement, the input-output pairs that judge an answer, and a reference program if there is one."""

    statement: str
    """The task in words."""
    program: str | None = None
    """Reference program; None for real questions that come without a solution."""
    entry: str = "f"
    """Function to call: `f`, or `Solution.method` for class-style questions."""
    mode: Literal["function", "stdin", "checks"] = "function"
    """How inputs reach the program. `checks`: each pair's input is code of the benchmark that calls `candidate`, which is the
    entry, and raises where it is wrong; its output is empty."""
    public: tuple[IOPair, ...] = ()
    """Pairs that are shown to the student."""
    private: Annotated[tuple[IOPair, ...], Field(min_length=1)]
    """Pairs that only the verifier sees; at least one, since else there is nothing to verify."""
    context: Annotated[str, Field(exclude_if=lambda code: not code)] = ""
    """Imports and helpers that stand before every answer, as in the benchmark's own harness. Left out of the id where there are
    none, so that questions of older logs keep theirs."""

    @property
    def pairs(self) -> tuple[IOPair, ...]:
        """All pairs, the public ones first."""
        return self.public + self.private

    @property
    def statement_with_context(self) -> str:
        """The statement; behind it the context, unless the statement shows that already."""
        if not self.context or self.context in self.statement:
            return self.statement
        return f"{self.statement}\n\nThis code stands before your answer:\n\n```python\n{self.context}\n```"

    @property
    def program_with_context(self) -> str | None:
        """The reference program with the context that it needs to run."""
        if self.program is None or not self.context or self.context in self.program:
            return self.program
        return f"{self.context}\n\n{self.program}"

    @property
    def id(self) -> QuestionId:
        """Content id: equal questions have equal ids."""
        return id_of_blob(BlobHash(hashlib.sha256(canonical(self)).hexdigest()))


def id_of_blob(blob: BlobHash) -> QuestionId:
    """The id of the question in a blob: the first 16 hex digits of its hash."""
    return QuestionId(blob[:16])


class Sampling(Value):
    """How tokens are sampled; logprobs are under this distribution."""

    # Settings list these fields with their docstrings.
    model_config = ConfigDict(use_attribute_docstrings=True)

    temperature: float = Field(default=1.0, ge=0.0)
    """0 means greedy."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus mass; 1 keeps the whole distribution."""
    max_tokens: int = Field(default=128, ge=1)
    """Most tokens of one completion, end token included."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end a completion once it holds one of them; they stay in it. Empty in logs of older schemas."""


class CompletionPart(Value):
    """A stretch of a completion that begins with a given text; what the model samples after it ends with a stop text."""

    given: str
    """Its tokens are not sampled, and nothing is learned from them."""
    stops: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    """The next part follows when the model has written one of them."""


class Generation(Value):
    """`count` completions of one prompt by one policy. Text and arrays are blobs; ids and logprobs are as sampled."""

    policy: Digest
    """Weights that sampled it."""
    template: str
    """SHA-256 (hex) of the prompt file that the prompt was rendered from."""
    prompt: BlobHash
    """Text of the prompt."""
    texts: BlobHash
    """JSON list of `count` completion texts."""
    tokens: BlobHash
    """Token arrays, see `events.facts.rollouts`: prompt ids, and for each completion its ids and logprobs."""
    count: int
    """Number of completions."""
    length: int
    """Completion tokens, all completions together, given ones included."""
    seed: int
    """Seed of the request."""
    sampling: Sampling
    """How the tokens were sampled."""
    parts: Annotated[tuple[CompletionPart, ...], Field(exclude_if=lambda parts: not parts)] = ()
    """The parts of each completion, by the answer form of its prompt; empty where the model wrote it whole."""


class Verdict(Value):
    """The verifier's judgement of one attempt. A program's failure is a verdict; Docker's failure is an error."""

    outcome: Outcome
    """Anything but `passed` is a failure."""
    passed: int
    """Tests passed."""
    total: int
    """Tests of the question."""
    detail: str = ""
    """A short reason for people, at most 200 characters; hostile text, escape it."""
    tests: OutcomeLetters | None = None
    """Outcomes of the tests, in the order of the question's pairs; shorter than `total` if tests were not run. None in logs of
    older schemas."""


def count_passed(verdicts: Iterable[Verdict]) -> int:
    """How many attempts passed."""
    return sum(verdict.outcome == "passed" for verdict in verdicts)


class Provenance(Value):
    """The conditions of verdicts, so that they can be reproduced."""

    image: str
    """Digest of the container image."""
    limits: dict[str, float]
    """Limits in force, by name."""
    per_test: bool = False
    """Whether the limits hold for each test; else all tests of an answer share them."""
    rules: JudgingRules = "own"
    """Judging rules; this field and `per_test` have their defaults in logs of older schemas."""
    labels: Annotated[LabelSource, Field(exclude_if=lambda source: source == "question")] = "question"
    """What answers were compared with; by a vote, `passed` means agreed and not right."""


class OptimizerStep(Value):
    """One optimizer step."""

    phase: Phase
    """Which rewards it learned from."""
    groups: int
    """Reward groups in the batch."""
    silent_groups: int
    """Groups whose advantages are all zero; they carry no signal."""
    silent: dict[NoSignalReason, int] = Field(default_factory=dict)
    """Completions with advantage 0, by reason; empty in logs of schema 1."""
    samples: int
    """Completions that were computed: those with a non-zero advantage, or all where the loss has a KL or entropy term."""
    tokens: int
    """Their completion tokens."""
    reward: float
    """Mean reward over all groups' completions."""
    metrics: dict[str, float]
    """Loss, gradient norm and the rest, named as TRL names them."""


class SourceLog(Value):
    """A log that another run learns from, up to a position; the head there identifies it."""

    name: str
    """The other run's name."""
    until: int
    """Last position that counts."""
    head: str
    """The head digest there."""
