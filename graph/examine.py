"""Examinations: pass@k of a policy on a question set, through the same solver, verifier and log as play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from events.estimators import pass_at_k
from events.log import Log
from events.types import AttemptsMade, AttemptsVerified, EvaluationFinished
from events.values import Question, QuestionId
from graph.config import EvaluateSettings
from graph.lockstep import Lockstep
from graph.seeds import derive
from roles.record import texts
from roles.solver import Solver
from roles.verifier import Verifier

KS = (1, 5, 10, 20, 50, 100)
"""pass@k is reported for those k that the attempts allow."""


@dataclass(frozen=True)
class Examiner:
    """Examines the student."""

    log: Log
    solver: Solver
    verifier: Verifier
    lockstep: Lockstep
    settings: EvaluateSettings
    seed: int

    async def examine(self, name: str, questions: Sequence[Question], iteration: int) -> None:
        """Append one evaluation; does nothing if the log has it, goes on where it was broken off."""
        stream = f"evaluation/{name}/{iteration:05}"
        events = list(self.log.read(stream))
        if any(isinstance(event.fact, EvaluationFinished) for event in events):
            return
        made = {event.version: event.fact.question for event in events if isinstance(event.fact, AttemptsMade)}
        verified = [event.fact for event in events if isinstance(event.fact, AttemptsVerified)]
        successes = {made[fact.of]: sum(verdict.outcome == "passed" for verdict in fact.verdicts) for fact in verified}

        async def ask(question: Question) -> None:
            successes[question.id] = await self._successes(stream, question)

        await self.lockstep.play([ask(question) for question in questions if question.id not in successes])
        self.log.append(stream, [self._finished(name, iteration, {item.id: successes[item.id] for item in questions})])

    async def _successes(self, stream: str, question: Question) -> int:
        seed = derive(self.seed, stream, question.id)
        generation = await self.solver.answer(
            question, "induction", None, count=self.settings.attempts, seed=seed, sampling=self.settings.sampling
        )
        verdicts, used = await self.verifier.judge(question, "induction", None, texts(self.log, generation))
        version = self.log.version(stream)
        self.log.append(
            stream,
            [
                AttemptsMade(purpose="evaluation", question=question.id, task="induction", generation=generation),
                AttemptsVerified(of=version + 1, verdicts=tuple(verdicts), provenance=self.verifier.provenance),
            ],
            expected=version,
            observed={"used": {str(version + 1): used}},
        )
        return sum(verdict.outcome == "passed" for verdict in verdicts)

    def _finished(self, name: str, iteration: int, successes: dict[QuestionId, int]) -> EvaluationFinished:
        count = self.settings.attempts
        return EvaluationFinished(
            name=name,
            iteration=iteration,
            policy=self.solver.model.policy,
            sampling=self.settings.sampling,
            attempts=count,
            successes=successes,
            pass_at={k: pass_at_k(count, list(successes.values()), k) for k in KS if k <= count},
        )
