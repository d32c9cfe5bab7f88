"""The story of one attempt: what was asked, what was answered, what the verifier found, what it was worth and who learned.

Law: read from the log alone (the texts of tokens from the tokenizer beside it), and only where they lie: the attempt's own
stream, and for its advantage the rewards of its iteration, compared as the trainer compares them. It prints nothing. An
attempt is named `STREAM:VERSION/INDEX`: the event that holds all completions of the prompt, and its place among them from 0.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from events.facts.errors import BadInput, LogCorrupt
from events.facts.log import Event, ReadableLog, find_run_started
from events.facts.rollouts import unpack_rollouts
from events.facts.streams import GOALPOSTS, policy_stream
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
    ReferencesDrawn,
    RewardGiven,
    RunStarted,
)
from events.facts.values import (
    Digest,
    Generation,
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
from events.projections.goalpost_history import ProposalHistory, apply_proposal
from events.projections.lineage import covers
from events.projections.lineage import learnable_rewards as rewarded_among
from events.projections.token_text import pieces
from events.pure.advantages import ADVANTAGE_ESTIMATORS, RewardGroup, trr_plus_plus_and_grpo
from events.pure.answer_parsing import INPUTS, Malformed, parse_input, parse_output, parse_program, parse_proposal
from events.pure.evalplus_sanitizer import extract_program


class CompletionPositions(NamedTuple):
    """Where in the log an attempt was made, verified and rewarded."""

    made: int
    verified: int | None
    rewarded: int | None


@dataclass(frozen=True)
class CompletionDetail:
    """One completion: an answer of the student, or a proposal of the teacher."""

    stream: str
    version: int
    index: int
    """Place among the completions of its prompt, from 0."""
    count: int
    """How many completions the prompt has."""
    positions: CompletionPositions
    iteration: int | None
    """None in an examination."""
    purpose: Purpose | Literal["proposal"]
    role: Role
    task: Task | Seat
    asked: QuestionId
    """The question that was asked; of a proposal, the question that it is a variant of."""
    question: Question | None
    """The same whole; None where only its prompt is in the log, as of examinations on other sets than the goalposts."""
    pair: int | None
    """Deduction and abduction: index of the asked pair in `Question.pairs`."""
    prompt: str
    completion: str
    program: str | None
    """The program in the completion, where one was asked for and found."""
    answer: str | None
    """Deduction and abduction: the literal in the completion."""
    malformed: str | None
    """Why the completion holds no answer of the asked form; None where it does."""
    proposal: ProposalHistory | None
    """What became of a proposal; None for answers."""
    verdict: Verdict | None
    """None for proposals, and before there is one."""
    provenance: Provenance | None
    """Under which conditions the verdict was reached."""
    used: dict[str, float]
    """What running it took (seconds, CPU seconds, MB), as clocks said; empty where nobody wrote it down."""
    phase: Phase | None
    """Which optimizer step of its iteration the reward feeds."""
    reward: float | None
    """None where nothing is learned from it."""
    advantage: float | None
    """How much better than expected it was, by the run's credit over its iteration. None without a reward, before the iteration
    has ended, and in a failed episode."""
    policy: Digest
    """Weights that sampled it."""
    sampling: Sampling
    seed: int
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    pieces: tuple[str, ...] | None
    """The text of each token; None where the run has no tokenizer here."""
    learned_by: tuple[Digest, ...]
    """Weights whose update consumed it."""

    @property
    def name(self) -> str:
        """`STREAM:VERSION/INDEX`."""
        return f"{self.stream}:{self.version}/{self.index}"

    @property
    def reference(self) -> str | None:
        """The program that a wrong one is compared with; None where there are not both."""
        wrong = self.program is not None and self.verdict is not None and self.verdict.outcome != "passed"
        return self.question.program if wrong and self.question is not None else None

    @property
    def public(self) -> tuple[IOPair, ...]:
        """Pairs that the student was shown."""
        return () if self.question is None else self.question.public

    @property
    def private(self) -> tuple[IOPair, ...]:
        """Pairs that only the verifier saw."""
        return () if self.question is None else self.question.private


def completion_detail(log: ReadableLog, where: str, stream: str, version: int, index: int) -> CompletionDetail:
    """Everything about one attempt.

    Args:
        log: where it was made.
        where: what a command line calls the run; its tokenizer is looked for there.
        stream: with `version`, the event that holds it.
        version: see `stream`.
        index: its place among the completions, from 0.

    Raises:
        BadInput: there is no such attempt.
        LogCorrupt: a blob is missing, or contradicts its event.
    """
    events = list(log.read(stream))
    made = next((event for event in events if event.version == version), None)
    if made is None or not isinstance(made.fact, QuestionProposed | AttemptsMade):
        raise BadInput(f"nothing was generated at version {version} of {stream!r}; `python -m events show` lists its events")
    generation = made.fact.generation
    if not 0 <= index < generation.count:
        raise BadInput(f"there is no attempt {index} at {stream}:{version}; they are counted from 0 to {generation.count - 1}")
    start = find_run_started(log)
    question = _question(log, events, made.fact)
    verified = next((event for event in events if isinstance(event.fact, AttemptsVerified) and event.fact.of == version), None)
    rewarded = next((event for event in events if isinstance(event.fact, RewardGiven) and event.fact.of == version), None)
    completion, ids, logprobs = _completion(log, made, generation, index)
    said = pieces(where, generation.policy, ids)
    return CompletionDetail(
        stream=stream,
        version=version,
        index=index,
        count=generation.count,
        positions=CompletionPositions(made.position, _position(verified), _position(rewarded)),
        iteration=next((event.fact.iteration for event in events if isinstance(event.fact, EpisodeStarted)), None),
        **_request_fields(made.fact),
        question=question,
        prompt=log.get(generation.prompt).decode("utf-8", "surrogatepass"),
        completion=completion,
        **_parsed_fields(made.fact, completion, start, _rules(verified), question),
        proposal=_proposal(events, version),
        **_verdict_fields(verified, version, index),
        **_reward_fields(log, start, events, rewarded, index),
        policy=generation.policy,
        sampling=generation.sampling,
        seed=generation.seed,
        ids=ids,
        logprobs=logprobs,
        pieces=None if said is None else tuple(said),
    )


def _position(event: Event | None) -> int | None:
    return None if event is None else event.position


def _question(log: ReadableLog, events: Sequence[Event], fact: QuestionProposed | AttemptsMade) -> Question | None:
    """The question that was asked, from where the stream, or the list of goalposts, names its blob."""
    wanted = fact.parent if isinstance(fact, QuestionProposed) else fact.question
    for event in events:
        match event.fact:
            case EpisodeStarted() | QuestionValidated() as named if named.question == wanted:
                return Question.model_validate_json(log.get(named.blob))
            case ReferencesDrawn(references=references):
                for blob in (blob for blob in references if blob.startswith(wanted)):
                    return Question.model_validate_json(log.get(blob))
    for event in log.read(GOALPOSTS, kinds=("goalpost_added",)):
        if isinstance(event.fact, GoalpostAdded) and event.fact.question == wanted:
            return Question.model_validate_json(log.get(event.fact.blob))
    return None


def _completion(
    log: ReadableLog, made: Event, generation: Generation, index: int
) -> tuple[str, tuple[int, ...], tuple[float, ...]]:
    texts, rollouts = json.loads(log.get(generation.texts)), unpack_rollouts(log.get(generation.tokens))
    if {len(texts), len(rollouts.ids)} != {generation.count}:
        raise LogCorrupt(
            f"position {made.position} does not have the completions that it names; the log is damaged, run verify"
        )
    return texts[index], tuple(rollouts.ids[index].tolist()), tuple(rollouts.logprobs[index].tolist())


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
    """What the completion says, by the parser that the verifier uses."""
    if isinstance(fact, QuestionProposed):
        pairs = (start.config if start else {}).get("play", {}).get("pairs", INPUTS)
        whole, program = parse_proposal(text, pairs), parse_program(text)
        malformed = whole.reason if isinstance(whole, Malformed) else None
        return {"program": None if isinstance(program, Malformed) else program, "answer": None, "malformed": malformed}
    if fact.task == "induction":
        found = extract_program(text, rules, "" if question is None else question.entry)
    else:
        found = parse_output(text) if fact.task == "deduction" else parse_input(text)
    if isinstance(found, Malformed):
        return {"program": None, "answer": None, "malformed": found.reason}
    said = {"program": found, "answer": None} if fact.task == "induction" else {"program": None, "answer": found}
    return {**said, "malformed": None}


def _proposal(events: Sequence[Event], version: int) -> ProposalHistory | None:
    told: list[ProposalHistory] = []
    for event in events:
        if not (isinstance(event.fact, RewardGiven) and event.fact.role == "student"):
            apply_proposal(event, told)
    return next((proposal for proposal in told if proposal.version == version), None)


def _verdict_fields(verified: Event | None, version: int, index: int) -> dict[str, Any]:
    if verified is None or not isinstance(verified.fact, AttemptsVerified):
        return {"verdict": None, "provenance": None, "used": {}}
    verdict, used = verified.fact.verdicts[index], verified.observed.get("used", {}).get(str(version), {})
    return {
        "verdict": verdict,
        "provenance": verified.fact.provenance,
        "used": {name: values[index] for name, values in used.items() if index < len(values) and values[index] is not None},
    }


def _reward_fields(
    log: ReadableLog, start: RunStarted | None, events: Sequence[Event], rewarded: Event | None, index: int
) -> dict[str, Any]:
    if rewarded is None or not isinstance(rewarded.fact, RewardGiven):
        return {"phase": None, "reward": None, "advantage": None, "learned_by": ()}
    fact, failed = rewarded.fact, any(isinstance(event.fact, EpisodeFailed) for event in events)
    advantages = None if failed else advantages_of(log, start, rewarded)
    return {
        "phase": fact.phase,
        "reward": fact.rewards[index],
        "advantage": None if advantages is None else advantages[index],
        "learned_by": () if failed else tuple(_consuming_updates(log, rewarded.position, fact.role)),
    }


def advantages_of(log: ReadableLog, start: RunStarted | None, rewarded: Event) -> tuple[float, ...] | None:
    """The advantages of completions that an event rewards: by the run's credit, beside all that its iteration rewarded.

    None before the iteration has ended, because what others will be rewarded counts.
    """
    ends = [event.position for event in log.read(kinds=("iteration_finished",))]
    last = bisect_left(ends, rewarded.position)
    if last == len(ends):
        return None
    after = ends[last - 1] if last else 0
    window = log.read(after=after, kinds=("reward_given", "episode_failed"))
    counted = rewarded_among(takewhile(lambda event: event.position <= ends[last], window))
    rewards = [(event.position, event.fact) for event in counted if isinstance(event.fact, RewardGiven)]
    learn = (start.config if start else {}).get("learn", {})
    credit = ADVANTAGE_ESTIMATORS.get(learn.get("credit", ""), trr_plus_plus_and_grpo)
    rows = credit([RewardGroup(fact.phase, fact.role, fact.task, fact.rewards) for _, fact in rewards])
    for (position, fact), row in zip(rewards, rows, strict=True):
        if position == rewarded.position:
            scale = learn.get("teacher_scale", 1.0) if fact.role == "teacher" else 1.0
            return tuple(scale * advantage for advantage in row)
    return None


def _consuming_updates(log: ReadableLog, position: int, role: Role) -> Iterator[Digest]:
    for policy in ("shared", role):
        for event in log.read(policy_stream(policy), kinds=("policy_updated",)):
            fact = event.fact
            if isinstance(fact, PolicyUpdated) and covers(fact, position, role):
                yield fact.digest
