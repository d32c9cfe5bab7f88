"""Everything that the log holds about one completion, an answer of the student or a proposal of the teacher.

Its name is `STREAM:VERSION/INDEX`: the event that holds the completions of a prompt, and the index among them, from 0.

Guarantees: reads only the completion's own stream and, for its advantage, the rewards of its iteration.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, Literal, NamedTuple

from events.facts.drawn_facts import ReferencesDrawn
from events.facts.errors import BadInput, LogCorrupt
from events.facts.label_facts import LabelVoted
from events.facts.log import Event, ReadableLog, find_run_started, read_facts
from events.facts.questions import read_question
from events.facts.rollouts import unpack_rollouts
from events.facts.streams import GOALPOSTS
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeStarted,
    GoalpostAdded,
    PolicyUpdated,
    Purpose,
    QuestionProposed,
    QuestionValidated,
    RewardGiven,
    RunStarted,
)
from events.facts.values import (
    Digest,
    IOPair,
    JudgingRules,
    Phase,
    Provenance,
    Question,
    QuestionId,
    Role,
    Sampling,
    Seat,
    Task,
    Verdict,
)
from events.projections.certainty import AnswerCertainty, certainty_by_question, certainty_of
from events.projections.lineage import consuming_weights, learnable_events
from events.projections.proposals import ProposalState, apply_proposal
from events.projections.token_text import token_texts
from events.pure.advantages import ADVANTAGE_ESTIMATORS, EstimatorName, RewardGroup
from events.pure.answer_parsing import INPUTS, Malformed, parse_input, parse_output, parse_program, parse_proposal
from events.pure.evalplus_sanitizer import extract_program
from events.text.phrases import vote_sentence

ASSUMED_ESTIMATOR: Final[EstimatorName] = "trr_plus_plus_and_grpo"
"""What all recipes but `azr` choose; without questions of real-data RL, which `azr` has not, it is the same as `azr`'s."""


class CompletionPositions(NamedTuple):
    """Positions of the events that sampled, verified and rewarded a completion."""

    made: int
    verified: int | None
    rewarded: int | None


@dataclass(frozen=True)
class CompletionDetail:
    """An answer of the student, or a proposal of the teacher."""

    stream: str
    version: int
    index: int
    """Index among the `count` completions of its prompt, from 0."""
    count: int
    positions: CompletionPositions
    iteration: int | None
    """None in an evaluation."""
    purpose: Purpose | Literal["proposal"]
    role: Role
    task: Task | Seat
    asked: QuestionId
    """Id of the question that was asked; of a proposal, of the question that it varies."""
    question: Question | None
    """That question; None where the log holds only its prompt, as in evaluations on other sets than goalposts."""
    pair: int | None
    """Deduction and abduction: index in `Question.pairs` of the test case that was asked."""
    prompt: str
    completion: str
    program: str | None
    """The program in the completion; None where the task asks for none, or none was found."""
    answer: str | None
    """Deduction and abduction: the literal in the completion."""
    malformed: str | None
    """Why the completion holds no answer of the asked form; None where it does."""
    proposal: ProposalState | None
    verdict: Verdict | None
    vote: str | None
    """The vote on the outputs of the question, in words; None where there was none."""
    sure: AnswerCertainty | None
    """How sure the student was of the answer; None where no evaluation asked."""
    label: tuple[str, ...] | None
    """The outputs that the answer was compared with, where they are not those of the question."""
    provenance: Provenance | None
    """Image, limits and rules that the verdict was reached under."""
    used: dict[str, float]
    """Resources that running it took (seconds, CPU seconds, MB); empty where they were not recorded."""
    phase: Phase | None
    """Which optimizer step of its iteration the reward feeds."""
    reward: float | None
    advantage: float | None
    """By `advantage_estimator`, over the iteration; None without a reward, before the iteration has ended, and in a failed
    episode."""
    advantage_estimator: str
    """Name of the run's advantage estimator."""
    estimator_assumed: bool
    """Whether neither an update nor the settings in the log name it, as in older logs; it is then the usual one of recipes."""
    policy: Digest
    sampling: Sampling
    seed: int
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    sampled: tuple[bool, ...]
    """Of each token whether it was sampled; the others were given."""
    pieces: tuple[str, ...] | None
    """Text of each token; None where the run's tokenizer is not at hand."""
    learned_by: tuple[Digest, ...]
    """Weights whose update consumed its reward."""

    @property
    def name(self) -> str:
        """`STREAM:VERSION/INDEX`."""
        return f"{self.stream}:{self.version}/{self.index}"

    @property
    def reference(self) -> str | None:
        """The reference program, where a wrong program can be compared with it."""
        wrong = self.program is not None and self.verdict is not None and self.verdict.outcome != "passed"
        return self.question.program if wrong and self.question is not None else None

    @property
    def pairs(self) -> tuple[IOPair, ...]:
        """Test cases with the outputs that the answer was compared with."""
        pairs = () if self.question is None else self.question.pairs
        if self.label is None:
            return pairs
        return tuple(pair.model_copy(update={"output": text}) for pair, text in zip(pairs, self.label, strict=False))

    @property
    def public(self) -> tuple[IOPair, ...]:
        """Test cases that the student was shown."""
        return () if self.question is None else self.question.public

    @property
    def private(self) -> tuple[IOPair, ...]:
        """Test cases that only the verifier saw."""
        return () if self.question is None else self.question.private


def completion_detail(log: ReadableLog, where: str, stream: str, version: int, index: int) -> CompletionDetail:
    """The completion `STREAM:VERSION/INDEX` of the run that the command line calls `where`.

    Raises:
        BadInput: there is no such completion.
        LogCorrupt: a blob is missing, or contradicts its event.
    """
    events = list(log.read(stream))
    sampled = next((event for event in events if event.version == version), None)
    if sampled is None or not isinstance(sampled.fact, QuestionProposed | AttemptsMade):
        raise BadInput(f"Nothing was generated at version {version} of {stream!r}; `gasp log show` lists its events.")
    fact, generation = sampled.fact, sampled.fact.generation
    if not 0 <= index < generation.count:
        last = generation.count - 1
        raise BadInput(f"There is no attempt {index} at {stream}:{version}; they are counted from 0 to {last}.")
    start = find_run_started(log)
    question = _question(log, events, fact)
    verified = next((event for event in events if isinstance(event.fact, AttemptsVerified) and event.fact.of == version), None)
    rewarded = next((event for event in events if isinstance(event.fact, RewardGiven) and event.fact.of == version), None)
    texts, rollouts = json.loads(log.get(generation.texts)), unpack_rollouts(log.get(generation.tokens))
    if {len(texts), len(rollouts.ids)} != {generation.count}:
        wrong = f"Position {sampled.position} does not have the completions that it names"
        raise LogCorrupt(f"{wrong}; the log is damaged, run verify.")
    ids = tuple(rollouts.ids[index].tolist())
    pieces = token_texts(where, generation.policy, ids)
    return CompletionDetail(
        stream=stream,
        version=version,
        index=index,
        count=generation.count,
        positions=CompletionPositions(sampled.position, _position(verified), _position(rewarded)),
        iteration=next((event.fact.iteration for event in events if isinstance(event.fact, EpisodeStarted)), None),
        **_request_fields(fact),
        question=question,
        prompt=log.get(generation.prompt).decode("utf-8", "surrogatepass"),
        completion=texts[index],
        **_parsed_fields(fact, texts[index], start, _rules(verified), question),
        proposal=_proposal(events, version),
        **_verdict_fields(verified, version, index),
        **_label_fields(log, events, verified, version),
        sure=_sure(log, stream, fact, index),
        **_reward_fields(log, start, events, rewarded, index),
        policy=generation.policy,
        sampling=generation.sampling,
        seed=generation.seed,
        ids=ids,
        logprobs=tuple(rollouts.logprobs[index].tolist()),
        sampled=tuple(rollouts.sampled[index].tolist()),
        pieces=None if pieces is None else tuple(pieces),
    )


def _position(event: Event | None) -> int | None:
    return None if event is None else event.position


def _question(log: ReadableLog, events: Sequence[Event], fact: QuestionProposed | AttemptsMade) -> Question | None:
    """The question that was asked, from where the stream, or the list of goalposts, names its blob."""
    wanted = fact.parent if isinstance(fact, QuestionProposed) else fact.question
    for event in events:
        match event.fact:
            case EpisodeStarted() | QuestionValidated() as named if named.question == wanted:
                return read_question(log, named.blob)
            case ReferencesDrawn(references=references):
                for blob in (blob for blob in references if blob.startswith(wanted)):
                    return read_question(log, blob)
    added = next((fact for fact in read_facts(log, GoalpostAdded, GOALPOSTS) if fact.question == wanted), None)
    return None if added is None else read_question(log, added.blob)


def _request_fields(fact: QuestionProposed | AttemptsMade) -> dict[str, Any]:
    if isinstance(fact, QuestionProposed):
        return {"purpose": "proposal", "role": "teacher", "task": fact.seat, "asked": fact.parent, "pair": None}
    return {"purpose": fact.purpose, "role": "student", "task": fact.task, "asked": fact.question, "pair": fact.pair}


def _rules(verified: Event | None) -> JudgingRules:
    """The rules by which an attempt was judged; `own` where it was not yet."""
    return verified.fact.provenance.rules if verified is not None and isinstance(verified.fact, AttemptsVerified) else "own"


def _parsed_fields(
    fact: QuestionProposed | AttemptsMade, text: str, start: RunStarted | None, rules: JudgingRules, question: Question | None
) -> dict[str, Any]:
    """Program or answer in the completion, by the verifier's parser."""
    fields: dict[str, Any] = {"program": None, "answer": None, "malformed": None}
    if isinstance(fact, QuestionProposed):
        inputs = (start.config if start else {}).get("play", {}).get("pairs", INPUTS)
        proposal, program = parse_proposal(text, inputs), parse_program(text)
        fields["malformed"] = proposal.reason if isinstance(proposal, Malformed) else None
        return fields | {"program": None if isinstance(program, Malformed) else program}
    if fact.task == "induction":
        parsed, name = extract_program(text, rules, "" if question is None else question.entry), "program"
    else:
        parsed, name = parse_output(text) if fact.task == "deduction" else parse_input(text), "answer"
    return fields | ({"malformed": parsed.reason} if isinstance(parsed, Malformed) else {name: parsed})


def _proposal(events: Sequence[Event], version: int) -> ProposalState | None:
    proposals: list[ProposalState] = []
    for event in events:
        if not (isinstance(event.fact, RewardGiven) and event.fact.role == "student"):
            apply_proposal(event, proposals)
    return next((proposal for proposal in proposals if proposal.version == version), None)


def _verdict_fields(verified: Event | None, version: int, index: int) -> dict[str, Any]:
    if verified is None or not isinstance(verified.fact, AttemptsVerified):
        return {"verdict": None, "provenance": None, "used": {}}
    used = verified.observed.get("used", {}).get(str(version), {})
    return {
        "verdict": verified.fact.verdicts[index],
        "provenance": verified.fact.provenance,
        "used": {name: values[index] for name, values in used.items() if index < len(values) and values[index] is not None},
    }


def _label_fields(log: ReadableLog, events: Sequence[Event], verified: Event | None, version: int) -> dict[str, Any]:
    votes = [event.fact for event in events if isinstance(event.fact, LabelVoted)]
    vote = next((vote for vote in votes if vote.of == version), None)
    if vote is None or verified is None or not isinstance(verified.fact, AttemptsVerified):
        return {"vote": None, "label": None}
    informed = next((other.label for other in votes if other.informed and other.question == vote.question), None)
    blob = {"question": None, "vote": vote.label, "informed": informed, "truth": vote.truth}[verified.fact.provenance.labels]
    return {"vote": vote_sentence(vote), "label": None if blob is None else tuple(json.loads(log.get(blob)))}


def _sure(log: ReadableLog, stream: str, fact: QuestionProposed | AttemptsMade, index: int) -> AnswerCertainty | None:
    if isinstance(fact, QuestionProposed):
        return None
    return certainty_of(certainty_by_question(log, stream), fact.question, index, fact.generation.count)


def _reward_fields(
    log: ReadableLog, start: RunStarted | None, events: Sequence[Event], rewarded: Event | None, index: int
) -> dict[str, Any]:
    updates = list(read_facts(log, PolicyUpdated))
    estimator = recorded_estimator(start, updates)
    fields = {"advantage_estimator": estimator or ASSUMED_ESTIMATOR, "estimator_assumed": estimator is None}
    if rewarded is None or not isinstance(rewarded.fact, RewardGiven):
        return fields | {"phase": None, "reward": None, "advantage": None, "learned_by": ()}
    failed = any(isinstance(event.fact, EpisodeFailed) for event in events)
    advantages = None if failed else advantages_of(log, start, rewarded, estimator or ASSUMED_ESTIMATOR)
    learners = consuming_weights(updates, [rewarded])
    return fields | {
        "phase": rewarded.fact.phase,
        "reward": rewarded.fact.rewards[index],
        "advantage": None if advantages is None else advantages[index],
        "learned_by": () if failed else tuple(learners),
    }


def recorded_estimator(start: RunStarted | None, updates: Iterable[PolicyUpdated]) -> EstimatorName | None:
    """The advantage estimator of a run: that of its updates, which have one setting, or that which its settings name."""
    names = [
        *(update.advantage_estimator for update in updates),
        (start.config if start else {}).get("learn", {}).get("credit"),
    ]
    return next((name for name in names if name in ADVANTAGE_ESTIMATORS), None)


def advantages_of(
    log: ReadableLog, start: RunStarted | None, rewarded: Event, estimator: EstimatorName
) -> tuple[float, ...] | None:
    """Advantages of the completions that an event rewards, among all rewards of its iteration.

    None before the iteration has ended, because other rewards of the iteration count.
    """
    ends = [event.position for event in log.read(kinds=("iteration_finished",))]
    number = bisect_left(ends, rewarded.position)
    if number == len(ends):
        return None
    events = log.read(after=ends[number - 1] if number else 0, kinds=("reward_given", "episode_failed"))
    counted = learnable_events(takewhile(lambda event: event.position <= ends[number], events))
    rewards = [(event, event.fact) for event in counted if isinstance(event.fact, RewardGiven)]
    groups = [
        RewardGroup(fact.phase, fact.role, fact.task, fact.rewards, prompt=_prompt(log, event.stream, fact.of), set=fact.set)
        for event, fact in rewards
    ]
    for (event, fact), row in zip(rewards, ADVANTAGE_ESTIMATORS[estimator](groups), strict=True):
        if event.position == rewarded.position:
            scale = (
                (start.config if start else {}).get("learn", {}).get("teacher_scale", 1.0) if fact.role == "teacher" else 1.0
            )
            return tuple(scale * advantage for advantage in row)
    return None


def _prompt(log: ReadableLog, stream: str, version: int) -> str:
    """Hash of the prompt of completions; empty where the log holds none there."""
    event = log.event(stream, version)
    if event is None or not isinstance(event.fact, QuestionProposed | AttemptsMade):
        return ""
    return event.fact.generation.prompt
