"""Writes the log of a long synthetic run with readable texts: goalposts, lemmas, lifts, attempts, updates, evaluations.

Everything but the times follows from the seed; the student gets better with the iterations. Unlike `benchmarks.repeated_log`,
which repeats a few iterations quickly, every text is made for its place.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.command import run_main
from benchmarks.synthetic_player import ATTEMPTS, SAMPLING, SyntheticPlayer
from benchmarks.synthetic_questions import SyntheticQuestion, proposal_text, random_steps, synthetic_question, vary_steps
from events.cli.app import LOG_NAME
from events.cli.output import progress
from events.facts.errors import BadInput
from events.facts.fact import Fact
from events.facts.log import Log, ProgressCallback, ignore_progress
from events.facts.streams import GOALPOSTS, RUN, episode_stream, evaluation_stream, policy_stream
from events.facts.types import (
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    EvaluationFinished,
    GapMeasured,
    GoalpostAdded,
    IterationFinished,
    IterationStarted,
    PassRateMeasured,
    PolicyServed,
    PolicyUpdated,
    Purpose,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    RewardGiven,
    RunFinished,
    RunStarted,
)
from events.facts.values import Axis, Digest, OptimizerStep, Phase, Role, Seat, Task
from events.stores import open_log

GOALPOST_COUNT, TEST, GUIDED, PRACTICE = 500, 100, 48, 16
"""Goalposts, questions of the test, and episodes of an iteration."""
EPISODES = GUIDED + PRACTICE
EVERY, EVERY_GOALPOST = 25, 5
"""Iterations between evaluations, and which goalposts are evaluated."""
PHASES: dict[Seat, Phase] = {"easy": "lemma", "hard": "lift"}


class LongRun:
    """Writes a run into a log."""

    def __init__(self, log: Log, seed: int) -> None:
        self._player = SyntheticPlayer(log, seed)
        self._seed = seed
        self._consumed = 0
        rng = self._player.rng
        self._goalposts = [synthetic_question(rng, random_steps(rng, rng.randint(3, 8))) for _ in range(GOALPOST_COUNT)]
        self._test = [synthetic_question(rng, random_steps(rng, rng.randint(2, 5))) for _ in range(TEST)]

    def write(self, events: int, on_progress: ProgressCallback = ignore_progress) -> None:
        """Write the run, of so many events or somewhat more."""
        player = self._player
        config = {"recipe": "gasp", "seed": self._seed, "play": {"attempts": ATTEMPTS, "episodes": EPISODES}}
        versions = {"python": "3.11.7"}
        player.append(RUN, [RunStarted(config=config, versions=versions, commit="unknown", policies=self._policies)])
        goalposts = [each.question for each in self._goalposts]
        added = [GoalpostAdded(question=each.id, blob=player.blob(each), source="made up") for each in goalposts]
        player.append(GOALPOSTS, added)
        while player.log.head().position < events:
            if player.iteration % EVERY == 0:
                self._evaluate("test", self._test)
                self._evaluate("goalposts", self._goalposts[::EVERY_GOALPOST])
            self._play()
            on_progress(min(player.log.head().position, events), events)
        player.append(RUN, [RunFinished(iterations=player.iteration)])
        player.flush()

    @property
    def _policies(self) -> dict[Role, Digest]:
        return {"teacher": self._player.policy, "student": self._player.policy}

    def _play(self) -> None:
        player, failed = self._player, 0
        player.iteration += 1
        player.append(RUN, [IterationStarted(iteration=player.iteration, policies=self._policies, episodes=EPISODES)])
        for number in range(EPISODES):
            episode = EpisodeWriter(player, episode_stream(player.iteration, number))
            failed += episode.real_data() if number >= GUIDED else episode.guided(player.rng.choice(self._goalposts))
        player.append(RUN, [IterationFinished(iteration=player.iteration, finished=EPISODES - failed, failed=failed)])
        player.flush()
        self._learn()

    def _learn(self) -> None:
        player = self._player
        until, parent = player.log.head().position, player.policy
        player.policy = Digest(hashlib.sha256(f"{parent} {player.iteration}".encode()).hexdigest())
        phases: tuple[Phase, ...] = ("lemma", "lift", "solve", "practice")
        update = PolicyUpdated(
            policy="shared",
            parent=parent,
            digest=player.policy,
            iteration=player.iteration,
            after=self._consumed,
            until=until,
            samples=hashlib.sha256(str(until).encode()).hexdigest(),
            step=4 * player.iteration,
            steps=tuple(self._step(phase) for phase in phases),
        )
        seconds = {"seconds": 20 + 5 * player.rng.random(), "tokens_per_second": 2500 + 500 * player.rng.random()}
        player.log.append(policy_stream("shared"), [update], observed=seconds)
        digest = player.policy
        servings = [PolicyServed(role=role, policy=digest, difference=0.0, mean_difference=0.0) for role in self._policies]
        player.append(RUN, servings)
        self._consumed = until

    def _step(self, phase: Phase) -> OptimizerStep:
        player, rng = self._player, self._player.rng
        metrics = {
            "loss": rng.uniform(-0.05, 0.05),
            "entropy": 0.3 + math.exp(-player.iteration / 200) + 0.05 * rng.random(),
            "grad_norm": rng.uniform(0.1, 0.6),
            "learning_rate": 3e-4,
        }
        samples = rng.randint(200, 400)
        counts = {"groups": 40, "silent_groups": 6, "samples": samples, "tokens": 30 * samples}
        return OptimizerStep(phase=phase, **counts, reward=player.skill(4) - 0.5 + 0.1 * rng.random(), metrics=metrics)

    def _evaluate(self, name: str, questions: Sequence[SyntheticQuestion]) -> None:
        player, facts, successes = self._player, list[Fact](), {}
        for number, question in enumerate(questions):
            made, verified, passed = player.attempts("evaluation", question, 2 * number + 1)
            facts += [made, verified]
            successes[question.question.id] = passed
        pass_at = {k: sum(1 - (1 - n / ATTEMPTS) ** k for n in successes.values()) / len(successes) for k in (1, ATTEMPTS)}
        common = {"iteration": player.iteration, "policy": player.policy, "sampling": SAMPLING, "attempts": ATTEMPTS}
        facts.append(EvaluationFinished(name=name, successes=successes, pass_at=pass_at, **common))
        player.append(evaluation_stream(name, player.iteration), facts)


class EpisodeWriter:
    """Writes an episode, whose facts are appended together."""

    def __init__(self, player: SyntheticPlayer, stream: str) -> None:
        self._player, self._rng, self._stream = player, player.rng, stream
        self._facts: list[Fact] = []

    def real_data(self) -> bool:
        """Write an episode of real-data RL; returns whether it failed, which is never."""
        question = synthetic_question(self._rng, random_steps(self._rng, self._rng.randint(2, 4)))
        self._start("practice", question)
        self._rewarded_attempt("practice", question, "practice")
        return self._end("played")

    def guided(self, goalpost: SyntheticQuestion) -> bool:
        """Write a guided episode; returns whether it failed."""
        self._start("guided", goalpost)
        passed = self._attempt("gap", goalpost)
        gap, share = 1 - passed / ATTEMPTS, max(passed / ATTEMPTS, 0.4)
        goalpost_id = goalpost.question.id
        self._facts.append(GapMeasured(question=goalpost_id, successes=passed, attempts=ATTEMPTS, best_share=share, gap=gap))
        if self._rng.random() < 0.005:
            self._facts.append(EpisodeFailed(error="SandboxError", message="the engine did not answer"))
            self._player.append(self._stream, self._facts)
            return True
        if gap <= 0.1:
            return self._end("goalpost_solved")
        lemma = self._propose("easy", goalpost, -2, (3, 9))
        if lemma is None:
            return self._end("no_lemma")
        return self._end("no_lift" if self._propose("hard", lemma, 1, (1, 7)) is None else "played")

    def _start(self, purpose: str, question: SyntheticQuestion) -> None:
        self._axis: Axis = self._rng.choice(("io", "function"))
        iteration, seed, blob = self._player.iteration, self._rng.randrange(2**31), self._player.blob(question.question)
        common = {"iteration": iteration, "purpose": purpose, "axis": self._axis, "seed": seed}
        self._facts.append(EpisodeStarted(question=question.question.id, blob=blob, **common))

    def _end(self, reason: str) -> bool:
        self._facts.append(EpisodeFinished(reason=reason))
        self._player.append(self._stream, self._facts)
        return False

    def _attempt(self, purpose: Purpose, question: SyntheticQuestion, task: Task = "induction") -> int:
        made, verified, passed = self._player.attempts(purpose, question, len(self._facts) + 1, task)
        self._facts += [made, verified]
        return passed

    def _rewarded_attempt(self, purpose: Purpose, question: SyntheticQuestion, phase: Phase, task: Task = "induction") -> None:
        self._attempt(purpose, question, task)
        self._reward(len(self._facts) - 1, phase, task)

    def _reward(self, of: int, phase: Phase, task: Task) -> None:
        verified = self._facts[of]
        assert isinstance(verified, AttemptsVerified)
        rewards = tuple(1.0 if verdict.outcome == "passed" else -0.5 for verdict in verified.verdicts)
        self._facts.append(RewardGiven(of=of, phase=phase, role="student", task=task, rewards=rewards))

    def _propose(self, seat: Seat, parent: SyntheticQuestion, change: int, band: tuple[int, int]) -> SyntheticQuestion | None:
        """Up to three proposals, the last of which may be accepted."""
        for attempt in (1, 2, 3):
            question = synthetic_question(self._rng, vary_steps(self._rng, parent.steps, change))
            proposed = len(self._facts) + 1
            well_formed = self._rng.random() > 0.1
            written = self._player.generation(f"Vary: {parent.question.statement}", [proposal_text(question, well_formed)])
            self._facts.append(QuestionProposed(seat=seat, attempt=attempt, parent=parent.question.id, generation=written))
            if self._judge(seat, question, proposed, band, well_formed=well_formed):
                return question
        return None

    def _judge(
        self, seat: Seat, question: SyntheticQuestion, proposed: int, band: tuple[int, int], *, well_formed: bool
    ) -> bool:
        reward, reason, named = -1.0, None if well_formed else "malformed", {}
        if well_formed:
            named = {"question": question.question.id, "blob": self._player.blob(question.question)}
            similarity = round(self._rng.betavariate(6, 2), 6)
            aligned = self._rng.choice((True, True, False, None))
            self._facts.append(QuestionValidated(seat=seat, similarity=similarity, aligned=aligned, **named))
            attempts_version = len(self._facts) + 1
            passed = self._attempt("pass_rate", question)
            measured = PassRateMeasured(seat=seat, question=question.question.id, successes=passed, attempts=ATTEMPTS)
            self._facts.append(measured)
            reason = "too_hard" if passed < band[0] else "too_easy" if passed > band[1] else None
            reward = -0.5 if reason else 4 * passed / ATTEMPTS * (1 - passed / ATTEMPTS)
        self._facts.append(RewardGiven(of=proposed, phase=PHASES[seat], role="teacher", task=seat, rewards=(reward,)))
        if reason is not None:
            self._facts.append(QuestionRejected(seat=seat, reason=reason, **named))
            return False
        self._facts.append(QuestionAccepted(seat=seat, axis=self._axis, **named))
        task: Task = self._rng.choice(("induction", "deduction", "abduction"))
        if task == "induction":
            self._reward(attempts_version, "solve", task)
        else:
            self._rewarded_attempt("solve", question, "solve", task)
        return True


def main(
    folder: Annotated[Path, typer.Argument(help="A new directory, which becomes that of a run.")],
    events: Annotated[int, typer.Option(help="So many events, or somewhat more.", min=1)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Seed of everything but the times.")] = 0,
) -> None:
    """Write the log of a long run whose texts can be read and searched. A few minutes for a million events."""
    if (folder / LOG_NAME).exists():
        raise BadInput(f"There is a log in {folder}; choose another directory, or remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    with closing(open_log(folder / LOG_NAME, create=True)) as log, progress("writing") as on_progress:
        LongRun(log, seed).write(events, on_progress)


if __name__ == "__main__":
    run_main(main)
