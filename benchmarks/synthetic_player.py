"""A synthetic player: attempts with verdicts, proposals and their token arrays, of a student that improves with the iterations.

Everything follows from its generator; a right attempt has the verdict `passed`, any other has not.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache

from benchmarks.synthetic_questions import Quality, SyntheticQuestion, completion_text
from events.facts.fact import Fact
from events.facts.log import Event, Log
from events.facts.rollouts import pack_rollouts
from events.facts.types import AttemptsMade, AttemptsVerified, Purpose
from events.facts.values import BlobHash, Digest, Generation, Outcome, Provenance, Question, Sampling, Task, Verdict, canonical

ATTEMPTS = 10
"""Attempts at a question."""
CYCLE = 400
"""Iterations after which a student is as good as it gets."""
IN_FLIGHT = 256
"""Appends that wait for the disk at most."""
KEPT_ROLLOUTS = 200
"""Distinct token arrays of a size, which are shared: they would be most of the log."""
VOCABULARY = 1500
SAMPLING = Sampling()

PROVENANCE = Provenance(image=f"sha256:{'0' * 64}", limits={"wall_seconds": 6.0, "memory_mb": 256.0})
TEMPLATE = hashlib.sha256(b"template").hexdigest()
VERDICTS: dict[Quality, tuple[Outcome, str]] = {
    "right": ("passed", ""),
    "wrong": ("wrong_answer", "another value"),
    "slow": ("time_limit", "more than 6 s"),
    "broken": ("syntax_error", "'(' was never closed"),
    "empty": ("malformed", "no python block"),
}
FAILING: dict[Quality, str] = {"wrong": "w", "slow": "t", "broken": "s"}
"""The letter of a failed test."""


class SyntheticPlayer:
    """Teacher and student, which write into a log."""

    def __init__(self, log: Log, seed: int) -> None:
        self.log = log
        self.rng = random.Random(seed)  # noqa: S311  # equal seeds give equal runs
        self.policy = Digest(hashlib.sha256(f"start {seed}".encode()).hexdigest())
        self.iteration = 0
        self._waiting: deque[Future[list[Event]]] = deque()
        self._tokens: dict[int, list[tuple[BlobHash, int]]] = {}

    def skill(self, steps: int) -> float:
        """Probability that the student solves a question of so many operations."""
        return 1 / (1 + math.exp(1.1 * steps - 2.5 - 4 * min(self.iteration / CYCLE, 1)))

    def attempts(
        self, purpose: Purpose, question: SyntheticQuestion, version: int, task: Task = "induction"
    ) -> tuple[AttemptsMade, AttemptsVerified, int]:
        """Attempts at a question, to be appended as this version of their stream, their verdicts, and how many passed."""
        rng, chance = self.rng, self.skill(len(question.steps))
        wrong: tuple[Quality, ...] = ("wrong", "wrong", "wrong", "wrong", "wrong", "wrong", "slow", "broken", "empty")
        qualities = ["right" if rng.random() < chance else rng.choice(wrong) for _ in range(ATTEMPTS)]
        pair = None if task == "induction" else rng.randrange(len(question.question.pairs))
        texts = [completion_text(rng, question, quality) for quality in qualities]
        if pair is not None:
            side = "output" if task == "deduction" else "input"
            right = getattr(question.question.pairs[pair], side)
            texts = [f"```{side}\n{right if quality == 'right' else repr('none')}\n```" for quality in qualities]
            qualities = [quality if quality == "right" else "wrong" for quality in qualities]
        generation = self.generation(f"Solve: {question.question.statement}", texts)
        made = AttemptsMade(purpose=purpose, question=question.question.id, task=task, pair=pair, generation=generation)
        total = len(question.question.pairs) if pair is None else 1
        verdicts = tuple(_verdict(quality, total) for quality in qualities)
        return made, AttemptsVerified(of=version, verdicts=verdicts, provenance=PROVENANCE), qualities.count("right")

    def generation(self, prompt: str, texts: Sequence[str]) -> Generation:
        """Record completions of a prompt."""
        tokens, length = self.rng.choice(self._rollouts(len(texts)))
        return Generation(
            policy=self.policy,
            template=TEMPLATE,
            prompt=self.log.put(prompt.encode()),
            texts=self.log.put(json.dumps(texts).encode()),
            tokens=tokens,
            count=len(texts),
            length=length,
            seed=self.rng.randrange(2**31),
            sampling=SAMPLING,
        )

    def _rollouts(self, count: int) -> list[tuple[BlobHash, int]]:
        if count not in self._tokens:
            rng = random.Random(count)  # noqa: S311
            self._tokens[count] = [self._arrays(rng, count) for _ in range(KEPT_ROLLOUTS)]
        return self._tokens[count]

    def _arrays(self, rng: random.Random, count: int) -> tuple[BlobHash, int]:
        ids = [[rng.randrange(VOCABULARY) for _ in range(rng.randint(20, 60))] for _ in range(count)]
        logprobs = [[-rng.expovariate(2.0) for _ in row] for row in ids]
        prompt = [rng.randrange(VOCABULARY) for _ in range(40)]
        return self.log.put(pack_rollouts(prompt, ids, logprobs)), sum(map(len, ids))

    def blob(self, question: Question) -> BlobHash:
        """Store a question."""
        return self.log.put(canonical(question))

    def append(self, stream: str, facts: Sequence[Fact]) -> None:
        """Append to a stream, without waiting for the disk."""
        self._waiting.append(self.log.submit(stream, facts))
        if len(self._waiting) > IN_FLIGHT:
            self._waiting.popleft().result()

    def flush(self) -> None:
        """Wait until all appends are in the log."""
        while self._waiting:
            self._waiting.popleft().result()


@cache
def _verdict(quality: Quality, total: int) -> Verdict:
    outcome, detail = VERDICTS[quality]
    passed = total if quality == "right" else total // 3 if quality == "wrong" else 0
    tests = "" if quality == "empty" else "." * passed + FAILING.get(quality, ".") * (total - passed)
    return Verdict(outcome=outcome, passed=passed, total=total, detail=detail, tests=tests)
