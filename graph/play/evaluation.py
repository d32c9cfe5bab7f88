"""Evaluation: pass@k of a policy on a question set, with the same solver, verifier and log as play."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from events.facts.log import Log, first_fact
from events.facts.streams import evaluation_stream
from events.facts.types import AttemptsMade, AttemptsVerified, EvaluationFinished
from events.facts.values import Generation, Question, QuestionId, canonical, count_passed
from events.pure.estimators import pass_at_k
from graph.play.calibration import Calibrator
from graph.play.scheduler import Scheduler
from graph.settings.config import EvaluateSettings
from graph.settings.seeds import derive_seed
from graph.settings.threads import SINGLE_THREAD_WEIGHTS
from roles.generation_record import completion_texts
from roles.model import ROWS_AT_ONCE
from roles.solver import Solver
from roles.verifier import Verifier

REPORTED_KS = (1, 5, 10, 20, 50, 100)
"""pass@k is reported for those k that do not exceed the attempts."""
_MIN_COMPLETIONS_AT_ONCE: Final = 4
"""Completions in one batch however large the model is: one alone takes as long."""
_BATCH_SECONDS: Final = 300.0
"""Estimated seconds of one batch if every completion is as long as allowed: more than what a stop loses."""
_FLOPS: Final = {"cpu": 1e11, "gpu": 1e13}
"""Operations a second, measured on two cores with AVX-512 and assumed of a GPU; each token takes two for every weight."""


def questions_at_once(weights: int, settings: EvaluateSettings, *, gpu: bool, in_run: bool) -> int | None:
    """Questions in one batch of a model in this process, after which their attempts are in the log; None: all of them.

    A batch has at most `ROWS_AT_ONCE` completions, unless those of one question are more.

    Batches affect rounding, so their size depends on the arguments alone and never on a clock.

    Args:
        weights: how many the model has.
        settings: attempts a question, and their longest length.
        gpu: whether the model computes on a GPU.
        in_run: whether the evaluation belongs to a run; that of a small model is short and is one batch.
    """
    if weights < SINGLE_THREAD_WEIGHTS:
        return None if in_run else max(1, ROWS_AT_ONCE // settings.attempts)
    seconds = 2 * weights * settings.sampling.max_tokens / _FLOPS["gpu" if gpu else "cpu"]
    completions = min(ROWS_AT_ONCE, max(_MIN_COMPLETIONS_AT_ONCE, int(_BATCH_SECONDS / seconds)))
    return max(1, completions // settings.attempts)


def evaluation_name(name: str, questions: Sequence[Question], settings: EvaluateSettings, prompts: str) -> str:
    """The set's name with a digest of questions, attempts, prompts and sampling: evaluations of one name can be compared."""
    parts = (*(question.id for question in questions), str(settings.attempts), prompts)
    digest = hashlib.sha256("\0".join(parts).encode() + canonical(settings.sampling)).hexdigest()
    return f"{name}-{digest[:6]}"


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the student on question sets, and appends the results."""

    log: Log
    solver: Solver
    verifier: Verifier
    scheduler: Scheduler
    settings: EvaluateSettings
    seed: int
    batch_questions: int | None = None
    """Questions in one batch, after which all their attempts are in the log; None: all of them. Servers make their own batches:
    there the attempts at a question are in the log as soon as they are verified."""
    repeatable: bool = True
    """Whether an equal batch gives equal completions. If not, a resumed evaluation asks only what has no attempts yet."""

    async def evaluate(self, name: str, questions: Sequence[Question], iteration: int) -> EvaluationFinished:
        """Append one evaluation of a run; it does nothing if the log has it, and goes on where it was interrupted."""
        return await self.evaluate_in(evaluation_stream(name, iteration), name, questions, iteration)

    async def evaluate_in(self, stream: str, name: str, questions: Sequence[Question], iteration: int) -> EvaluationFinished:
        """Like `evaluate`, in a stream of the caller's choice."""
        finished = first_fact(self.log, stream, EvaluationFinished)
        if finished is None:
            finished = self.finish(stream, name, questions, iteration, await self.ask(stream, name, questions))
        await self.calibrate(stream, finished)
        return finished

    async def calibrate(self, stream: str, finished: EvaluationFinished, answers_in: Sequence[str] = ()) -> None:
        """Append how sure the student is of its answers, where the settings ask for it; see `Calibrator`."""
        if self.settings.certainty:
            calibrator = Calibrator(self.log, self.solver.model, self.solver.prompts, self.scheduler.activity)
            await calibrator.calibrate(stream, finished, answers_in)

    def successes(self, stream: str) -> dict[QuestionId, int]:
        """Passed attempts at each question whose attempts in a stream are verified."""
        events = list(self.log.read(stream))
        made = {event.version: event.fact.question for event in events if isinstance(event.fact, AttemptsMade)}
        verified = [event.fact for event in events if isinstance(event.fact, AttemptsVerified)]
        return {made[fact.of]: count_passed(fact.verdicts) for fact in verified}

    async def ask(
        self, stream: str, name: str, questions: Sequence[Question], evaluation: str | None = None
    ) -> dict[QuestionId, int]:
        """Ask what has no attempts in a stream yet, and return the passed attempts at each question.

        Where the stream is that of a share, `evaluation` is that of the whole, from whose name the seeds derive.
        """
        successes = self.successes(stream)

        async def ask(question: Question) -> None:
            generation = await self._attempt(evaluation or stream, question)
            # Otherwise it was sampled again only to fill its batch, whose size affects the rounding of the others.
            if question.id not in successes:
                key = None if evaluation is None else question.id
                successes[question.id] = await self._judge(stream, question, generation, key)
                task(len(successes), len(questions))

        size = self.batch_questions or max(1, len(questions))
        with self.scheduler.activity.task(f"evaluating {name}, questions", phase="evaluation") as task:
            task(len(successes), len(questions))
            for start in range(0, len(questions), size):
                batch = questions[start : start + size]
                missing = [question for question in batch if question.id not in successes]
                await self.scheduler.play([ask(question) for question in (batch if missing and self.repeatable else missing)])
        return successes

    def finish(
        self, stream: str, name: str, questions: Sequence[Question], iteration: int, successes: Mapping[QuestionId, int]
    ) -> EvaluationFinished:
        """Append the result of an evaluation whose questions have all been asked."""
        finished = self._finished(name, iteration, {question.id: successes[question.id] for question in questions})
        self.log.append(stream, [finished])
        return finished

    async def _attempt(self, stream: str, question: Question) -> Generation:
        settings, seed = self.settings, derive_seed(self.seed, stream, question.id)
        return await self.solver.answer(
            question, "induction", None, count=settings.attempts, seed=seed, sampling=settings.sampling
        )

    async def _judge(self, stream: str, question: Question, generation: Generation, key: str | None) -> int:
        """Append attempts and verdicts of a question, and return how many passed."""
        judged = await self.verifier.judge(question, "induction", None, completion_texts(self.log, generation))
        version = self.log.version(stream)
        self.log.append(
            stream,
            [
                AttemptsMade(purpose="evaluation", question=question.id, task="induction", generation=generation),
                AttemptsVerified(
                    of=version + 1, verdicts=tuple(judged.verdicts), provenance=self.verifier.provenance_of(question)
                ),
            ],
            expected=version,
            key=key,
            observed={"used": {str(version + 1): judged.usage}},
        )
        return count_passed(judged.verdicts)

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
