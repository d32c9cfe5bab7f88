"""Examinations: pass@k of a policy on a question set, through the same solver, verifier and log as play."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from events.facts.log import Log
from events.facts.streams import evaluation_stream
from events.facts.types import AttemptsMade, AttemptsVerified, EvaluationFinished
from events.facts.values import Generation, Question, QuestionId, canonical
from events.pure.estimators import pass_at_k
from graph.play.scheduler import Scheduler
from graph.settings.config import EvaluateSettings
from graph.settings.seeds import derive_seed
from graph.settings.threads import SMALL_MODEL_WEIGHTS
from roles.generation_record import texts
from roles.solver import Solver
from roles.verifier import Verifier

REPORTED_KS = (1, 5, 10, 20, 50, 100)
"""pass@k is reported for those k that the attempts allow."""
MAX_COMPLETIONS_AT_ONCE: Final = 256
"""Answers of a small model that an examination on request samples together."""
_MIN_COMPLETIONS_AT_ONCE: Final = 4
"""Answers that are sampled together however large the model is: to write one takes as long."""
_BATCH_SECONDS: Final = 60.0
"""What is sampled together may take so long, by an estimate that depends on no clock; a stop loses no more."""
_FLOPS: Final = {"cpu": 2e10, "gpu": 1e13}
"""Operations a second with which the estimate reckons; every weight takes two for every token."""


def questions_at_once(weights: int, settings: EvaluateSettings, *, gpu: bool, in_run: bool) -> int | None:
    """Questions that a model in this process is asked together, after which their answers are in the log; None: all.

    What is sampled together is rounded together, so that the number follows from sizes alone and never from a clock.

    Args:
        weights: how many the model has.
        settings: how many answers are asked for, and how long.
        gpu: whether it computes on a GPU.
        in_run: whether the examination belongs to a run, where those of a small model are short.
    """
    if weights < SMALL_MODEL_WEIGHTS:
        return None if in_run else max(1, MAX_COMPLETIONS_AT_ONCE // settings.attempts)
    seconds = 2 * weights * settings.sampling.max_tokens / _FLOPS["gpu" if gpu else "cpu"]
    answers = min(MAX_COMPLETIONS_AT_ONCE, max(_MIN_COMPLETIONS_AT_ONCE, int(_BATCH_SECONDS / seconds)))
    return max(1, answers // settings.attempts)


def named(name: str, questions: Sequence[Question], settings: EvaluateSettings, prompts: str) -> str:
    """A name that says of which set and how an examination was, so that those of one name can be compared."""
    asked = (*(question.id for question in questions), str(settings.attempts), prompts)
    how = hashlib.sha256("\0".join(asked).encode() + canonical(settings.sampling)).hexdigest()
    return f"{name}-{how[:6]}"


@dataclass(frozen=True)
class Evaluator:
    """Examines the student."""

    log: Log
    solver: Solver
    verifier: Verifier
    pace: Scheduler
    settings: EvaluateSettings
    seed: int
    at_once: int | None = None
    """Questions that are sampled together, after which all their answers are in the log; None: all of them. With servers, that
    is no batch: each is in the log as soon as it is verified."""
    repeatable: bool = True
    """Whether an equal batch gives equal answers. If not, only questions without an answer are asked when it goes on."""

    async def examine(self, name: str, questions: Sequence[Question], iteration: int) -> EvaluationFinished:
        """Append one evaluation of a run; does nothing if the log has it, goes on where it was broken off."""
        return await self.evaluate_in(evaluation_stream(name, iteration), name, questions, iteration)

    async def evaluate_in(self, stream: str, name: str, questions: Sequence[Question], iteration: int) -> EvaluationFinished:
        """The same in a stream of its own."""
        events = list(self.log.read(stream))
        for event in events:
            if isinstance(event.fact, EvaluationFinished):
                return event.fact
        made = {event.version: event.fact.question for event in events if isinstance(event.fact, AttemptsMade)}
        verified = [event.fact for event in events if isinstance(event.fact, AttemptsVerified)]
        successes = {made[fact.of]: sum(verdict.outcome == "passed" for verdict in fact.verdicts) for fact in verified}

        async def ask(question: Question) -> None:
            generation = await self._answers(stream, question)
            # Else it was asked again for its neighbours' sake alone: in a smaller batch they would be rounded otherwise.
            if question.id not in successes:
                successes[question.id] = await self._successes(stream, question, generation)
                task(len(successes), len(questions))

        size = self.at_once or len(questions)
        with self.pace.activity.task(f"examining {name}, questions") as task:
            task(len(successes), len(questions))
            for start in range(0, len(questions), size):
                together = questions[start : start + size]
                missing = [question for question in together if question.id not in successes]
                await self.pace.play([ask(question) for question in (together if missing and self.repeatable else missing)])
        finished = self._finished(name, iteration, {item.id: successes[item.id] for item in questions})
        self.log.append(stream, [finished])
        return finished

    async def _answers(self, stream: str, question: Question) -> Generation:
        seed, how = derive_seed(self.seed, stream, question.id), self.settings
        return await self.solver.answer(question, "induction", None, count=how.attempts, seed=seed, sampling=how.sampling)

    async def _successes(self, stream: str, question: Question, generation: Generation) -> int:
        verdicts, used = await self.verifier.judge(question, "induction", None, texts(self.log, generation))
        version = self.log.version(stream)
        self.log.append(
            stream,
            [
                AttemptsMade(purpose="evaluation", question=question.id, task="induction", generation=generation),
                AttemptsVerified(of=version + 1, verdicts=tuple(verdicts), provenance=self.verifier.provenance_of(question)),
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
            pass_at={k: pass_at_k(count, list(successes.values()), k) for k in REPORTED_KS if k <= count},
        )
