"""Builds plausible logs for tests: a run with goalposts, episodes, rewards and updates, with real rollout blobs.

Everything follows from the seed, and the facts stand in the order in which graph.run appends them. It plays nothing: pass
rates, verdicts and rewards are what the test asks for.

    scene(log).run().goalpost().start().episode(lemma=5, lift=2).practice(passing=3).finish()
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Sequence
from typing import Any

from events.facts.certainty_facts import CalibrationFinished, TextGiven
from events.facts.drawn_facts import DocumentDrawn
from events.facts.fact import Fact
from events.facts.label_facts import LabelVoted
from events.facts.log import Event, Log
from events.facts.rollouts import pack_rollouts
from events.facts.streams import trial_stream
from events.facts.trial_facts import StudentPromoted, TrialExamined, TrialLearned, TrialStarted
from events.facts.types import (
    AttemptsMade,
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
    PolicyUpdated,
    Purpose,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    Reason,
    RewardGiven,
    RunFinished,
    RunStarted,
)
from events.facts.values import (
    BlobHash,
    Digest,
    Generation,
    IOPair,
    LabelSource,
    Level,
    OptimizerStep,
    Phase,
    Provenance,
    Question,
    Role,
    Sampling,
    Seat,
    Task,
    Verdict,
    canonical,
)

START_WEIGHTS = Digest(hashlib.sha256(b"start").hexdigest())
"""Weights that a scene starts with, unless told otherwise."""
PROVENANCE = Provenance(image="sha256:0", limits={"seconds": 6.0})


def about_a_document(tale: ExampleRun, level: Level = "hard", matching: int = 2) -> tuple[Question, Event, Question]:
    """A question about a document, which 5 of 10 answers with it and so many without it match; also the latter, and the document."""
    document = question(77)
    tale.open(document, "unguided")
    drawn = DocumentDrawn(document=BlobHash(tale.log.put(canonical(document))), level=level)
    tale.log.append(tale.stream, [drawn])
    return *tale.propose("open", 1, document, matching, 10, informed=5), document


def question(number: int = 1) -> Question:
    """A real, easy question; equal numbers give equal questions."""
    inputs = [[1], [1, 2], [3, 4, 5], [0, -1], [7, 7]]
    pairs = [IOPair(input=repr(xs), output=repr([x + number for x in xs])) for xs in inputs]
    program = f"def f(xs):\n    return [x + {number} for x in xs]"
    return Question(
        statement=f"Add {number} to every number.", program=program, public=tuple(pairs[:2]), private=tuple(pairs[2:])
    )


def policy_updated(
    *, iteration: int, after: int, until: int, parent: Digest = START_WEIGHTS, policy: str = "shared"
) -> PolicyUpdated:
    """An update whose digest follows from its parent and iteration."""
    step = OptimizerStep(
        phase="lemma", groups=4, silent_groups=1, samples=30, tokens=200, reward=0.25, metrics={"loss": 0.5, "kl": 0.01}
    )
    return PolicyUpdated(
        policy=policy,
        parent=parent,
        digest=Digest(hashlib.sha256(f"{parent}{policy}{iteration}".encode()).hexdigest()),
        iteration=iteration,
        after=after,
        until=until,
        samples=hashlib.sha256(str(until).encode()).hexdigest(),
        step=iteration,
        steps=(step,),
    )


def example_run(
    log: Log, *, seed: int = 0, vocabulary: int = 32, policy: Digest = START_WEIGHTS, sampling: Sampling | None = None
) -> ExampleRun:
    """Start telling a story into `log`."""
    return ExampleRun(log, seed=seed, vocabulary=vocabulary, policy=policy, sampling=sampling or Sampling())


class ExampleRun:
    """Appends facts; every verb returns the scene."""

    def __init__(self, log: Log, *, seed: int, vocabulary: int, policy: Digest, sampling: Sampling) -> None:
        self.log = log
        self.policies: dict[Role, Digest] = {"teacher": policy, "student": policy}
        self.goalposts: list[Question] = []
        self.iteration = 0
        self.stream = ""
        self._random = random.Random(seed)
        self._vocabulary = vocabulary
        self._sampling = sampling
        self._episodes = 0
        self._failed = 0
        self._questions = 100
        self._consumed = 0
        self._learned = 0
        self._set = 0

    def run(self, **config: object) -> ExampleRun:
        versions = {"python": "3.11.2"}
        return self._say("run", RunStarted(config=config, versions=versions, commit="unknown", policies=self.policies))

    def goalpost(self, count: int = 1) -> ExampleRun:
        for _ in range(count):
            goalpost = question(1000 + len(self.goalposts))
            self.goalposts.append(goalpost)
            self._say("goalposts", GoalpostAdded(question=goalpost.id, blob=self._blob(goalpost), source="scene"))
        return self

    def start(self, episodes: int = 1) -> ExampleRun:
        self.iteration += 1
        self._episodes = self._failed = 0
        return self._say("run", IterationStarted(iteration=self.iteration, policies=dict(self.policies), episodes=episodes))

    def episode(
        self,
        *,
        lemma: int | None = 5,
        lift: int | None = 2,
        gap_successes: int = 0,
        attempts: int = 10,
        rejected: Sequence[Reason] = (),
        aligned: bool | None = True,
        similarity: float = 0.25,
        task: Task = "deduction",
    ) -> ExampleRun:
        """A whole guided episode.

        Args:
            lemma: successes on the lemma, None if every proposal is malformed.
            lift: successes on the lift, None if every proposal is malformed.
            gap_successes: successes on the goalpost itself.
            attempts: attempts of each measurement.
            rejected: the easy seat's proposals before the lemma, by the reason of their rejection.
            aligned: as in `QuestionValidated`.
            similarity: as in `QuestionValidated`.
            task: the form in which the student learns from both; `induction` rewards the pass-rate attempts.
        """
        goalpost = self.goalposts[self._episodes % len(self.goalposts)]
        self.open(goalpost, "guided")
        self._measure_gap(goalpost, gap_successes, attempts)
        for number, reason in enumerate(rejected, 1):
            self.reject("easy", number, goalpost, reason)
        if lemma is None:
            self.reject("easy", len(rejected) + 1, goalpost, "malformed")
            return self._end("no_lemma")
        easy = self.propose("easy", len(rejected) + 1, goalpost, lemma, attempts, aligned, similarity)
        if lift is None:
            self.reject("hard", 1, easy[0], "malformed")
            return self._learn([easy], task)._end("no_lift")
        hard = self.propose("hard", 1, easy[0], lift, attempts, aligned, similarity)
        return self._learn([easy, hard], task)._end("played")

    def practice(self, *, passing: int = 4, attempts: int = 8) -> ExampleRun:
        question = self._new_question()
        self.open(question, "practice")
        made = self.attempt("practice", question, passing, attempts)
        self.reward(made, "practice", "student", "induction", binary_rewards(passing, attempts))
        return self._end("played")

    def give(self, *, learned: int = 4, context: int = 2, certain: bool | None = True) -> Event:
        """An episode that gives a text of `learned` tokens, behind which are `context` others that are not learned."""
        question = self._new_question()
        self.open(question, "practice")
        ids = [self._random.randrange(self._vocabulary) for _ in range(learned + context)]
        marks = [True] * learned + [False] * context
        fact = TextGiven(
            question=question.id,
            prompt=self.log.put(f"Solve: {question.statement}".encode()),
            text=self.log.put(f"{question.program}\nI am {'sure' if certain else 'unsure'}.".encode()),
            tokens=self.log.put(pack_rollouts([1, 2, 3], [ids], [[0.0] * len(ids)], [marks])),
            length=learned,
            certain=certain,
        )
        event = self.log.append(self.stream, [fact])[0]
        self._end("played")
        return event

    def fail(self, message: str = "the engine is gone") -> ExampleRun:
        """An episode that starts, asks its goalpost and breaks off."""
        self.open(self.goalposts[0], "guided")
        self._measure_gap(self.goalposts[0], 0, 10)
        self._failed += 1
        return self._say(self.stream, EpisodeFailed(error="SandboxError", message=message))

    def in_set(self, number: int) -> ExampleRun:
        """What follows is of this set of questions."""
        self._set = number
        return self

    def begin_trial(self, number: int, *, student: int = 1, students: int = 1, steps: int = 2) -> Event:
        """TrialStarted, on a set that was played."""
        named = {"iteration": self.iteration, "set": number, "student": student, "students": students}
        begun = TrialStarted(**named, policy=self.policies["student"], steps=steps)
        return self.log.append(trial_stream(self.iteration, number, student), [begun])[0]

    def learn_trial(self, begun: Event, digest: Digest) -> ExampleRun:
        """TrialLearned, by weights of this digest."""
        trial = begun.fact
        assert isinstance(trial, TrialStarted)
        steps = policy_updated(iteration=trial.iteration, after=0, until=begun.position).steps
        named = {"iteration": trial.iteration, "set": trial.set, "student": trial.student, "parent": trial.policy}
        return self._say(
            "policy/student", TrialLearned(of=begun.position, **named, digest=digest, samples="0" * 64, steps=steps)
        )

    def examine_trial(self, begun: Event, digest: Digest, *, before: int, after: int, questions: int = 4) -> ExampleRun:
        """TrialExamined, behind its TrialStarted."""
        trial = begun.fact
        assert isinstance(trial, TrialStarted)
        counts = {"questions": questions, "before": before, "after": after}
        named = {"iteration": trial.iteration, "set": trial.set, "student": trial.student}
        return self._say(begun.stream, TrialExamined(**named, policy=digest, **counts))

    def promote(self, begun: Event, digest: Digest, *, gain: float = 0.25) -> ExampleRun:
        """StudentPromoted, of a trial."""
        trial = begun.fact
        assert isinstance(trial, TrialStarted)
        named = {"iteration": trial.iteration, "set": trial.set, "student": trial.student}
        return self._say("run", StudentPromoted(**named, policy=digest, gain=gain, window=1))

    def finish(self) -> ExampleRun:
        finished = self._episodes - self._failed
        return self._say("run", IterationFinished(iteration=self.iteration, finished=finished, failed=self._failed))

    def play(self, *, guided: int = 2, practice: int = 1) -> ExampleRun:
        self.start(guided + practice)
        for _ in range(guided):
            self.episode()
        for _ in range(practice):
            self.practice()
        return self.finish()

    def update(self, digest: Digest | None = None) -> ExampleRun:
        """PolicyUpdated of the shared policy from the last iteration; what follows plays with the new weights."""
        parent, until = self.policies["student"], self.log.head().position
        fact = policy_updated(iteration=self.iteration, after=self._consumed, until=until, parent=parent)
        if digest is not None:
            fact = fact.model_copy(update={"digest": digest})
        self._consumed, self._learned = until, self.iteration
        self.policies = {"teacher": fact.digest, "student": fact.digest}
        return self._say("policy/shared", fact)

    def evaluate(self, name: str = "test", *, successes: int = 2, attempts: int = 20) -> ExampleRun:
        """Attempts, verdicts and EvaluationFinished on one question."""
        target = question(1)
        self.stream = f"evaluation/{name}/{self._learned:05}"
        self.attempt("evaluation", target, successes, attempts)
        return self._say(
            self.stream,
            EvaluationFinished(
                name=name,
                iteration=self._learned,
                policy=self.policies["student"],
                sampling=self._sampling,
                attempts=attempts,
                successes={target.id: successes},
                pass_at={1: successes / attempts, attempts: float(successes > 0)},
            ),
        )

    def calibrate(self, name: str = "test", *, scores: Sequence[tuple[bool, float, float]]) -> ExampleRun:
        """CalibrationFinished behind the last evaluation; of each answer whether it passed, its confidence and certainty."""
        sure = [passed for passed, _, certainty in scores if certainty > 0.5]
        return self._say(
            self.stream,
            CalibrationFinished(
                name=name,
                iteration=self._learned,
                policy=self.policies["student"],
                answers=len(scores),
                passed=sum(passed for passed, _, _ in scores),
                refused=0,
                answered=len(sure),
                answered_passed=sum(sure),
                ap_confidence=0.75,
                ap_certainty=0.875,
                ece=0.125,
                scores=self.log.put(json.dumps([[question(1).id, *score] for score in scores]).encode()),
            ),
        )

    def end(self) -> ExampleRun:
        return self._say("run", RunFinished(iterations=self.iteration))

    def open(self, question: Question, purpose: str) -> ExampleRun:
        """EpisodeStarted, in a stream of its own; what follows is said there."""
        self.stream = f"episode/{self.iteration:05}/{self._episodes:03}"
        self._episodes += 1
        return self._say(
            self.stream,
            EpisodeStarted(
                iteration=self.iteration,
                purpose=purpose,
                question=question.id,
                blob=self._blob(question),
                axis=self._random.choice(("io", "function")),
                seed=self._random.randrange(2**31),
                set=self._set,
            ),
        )

    def propose(
        self,
        seat: Seat,
        attempt: int,
        parent: Question,
        successes: int,
        attempts: int,
        aligned: bool | None = True,
        similarity: float = 0.25,
        agreeing: int = 0,
        voted: dict[str, Any] | None = None,
        informed: int | None = None,
    ) -> tuple[Question, Event]:
        """An accepted proposal; gives the question and the event of its pass-rate attempts.

        With `informed`, so many of as many answers that saw a document voted for the label, and are right.
        """
        proposed, question = self._proposed(seat, attempt, parent), self._new_question()
        blob = self._blob(question)
        self._say(
            self.stream, QuestionValidated(seat=seat, question=question.id, blob=blob, similarity=similarity, aligned=aligned)
        )
        if informed is not None:
            self._vote(self.attempt("label", question, informed, attempts, labels="vote"), seat, question, informed, True)
        labels = "informed" if informed is not None else "question" if voted is None else "vote"
        made = self.attempt("pass_rate", question, successes, attempts, labels=labels)
        if informed is not None:
            self._vote(made, seat, question, successes, False)
        if voted is not None:
            counts = {"attempts": attempts, "voters": attempts, "votes": successes, "runner_up": 1} | voted
            label = self.log.put(json.dumps([pair.output for pair in question.pairs]).encode())
            outputs = {} if counts["votes"] == counts["runner_up"] else {"label": label, "agrees": True}
            self._say(self.stream, LabelVoted(of=made.version, seat=seat, question=question.id, **(counts | outputs)))
        fields = {"successes": successes, "attempts": attempts, "agreeing": agreeing}
        self._say(self.stream, PassRateMeasured(seat=seat, question=question.id, **fields))
        phase, task = {"easy": ("lemma", "easy"), "hard": ("lift", "hard"), "open": ("open", "induction")}[seat]
        self.reward(proposed, phase, "teacher", task, [0.5 + successes / 20])
        self._say(self.stream, QuestionAccepted(seat=seat, question=question.id, blob=blob, axis="function"))
        return question, made

    def _vote(self, made: Event, seat: Seat, question: Question, votes: int, informed: bool) -> None:
        """LabelVoted by answers that saw a document, and are right, or by such as did not, and are wrong."""
        assert isinstance(made.fact, AttemptsMade)
        label = self.log.put(json.dumps([pair.output for pair in question.pairs]).encode())
        counts = {"attempts": made.fact.generation.count, "voters": made.fact.generation.count, "votes": votes, "runner_up": 1}
        fields = {"label": label, "agrees": True, "right": informed, "informed": informed}
        self._say(self.stream, LabelVoted(of=made.version, seat=seat, question=question.id, **counts, **fields))

    def reject(self, seat: Seat, attempt: int, parent: Question, reason: Reason, detail: str = "") -> ExampleRun:
        """A proposal that nobody tried."""
        proposed = self._proposed(seat, attempt, parent)
        self._say(self.stream, QuestionRejected(seat=seat, reason=reason, detail=detail))
        return self.reward(proposed, "lemma" if seat == "easy" else "lift", "teacher", seat, [-1.0])

    def attempt(
        self,
        purpose: Purpose,
        question: Question,
        passing: int,
        count: int,
        task: Task = "induction",
        labels: LabelSource = "question",
    ) -> Event:
        """AttemptsMade and AttemptsVerified, the passing ones first; gives the former."""
        fact = AttemptsMade(
            purpose=purpose,
            question=question.id,
            task=task,
            pair=None if task == "induction" else 0,
            generation=self.generation(f"Solve: {question.statement}", count),
        )
        made = self.log.append(self.stream, [fact])[0]
        total = len(question.pairs)
        passed = Verdict(outcome="passed", passed=total, total=total, tests="." * total)
        wrong = Verdict(outcome="wrong_answer", passed=1, total=total, detail="[1] is not [2]", tests="." + "w" * (total - 1))
        verdicts = (passed,) * passing + (wrong,) * (count - passing)
        self._say(
            self.stream,
            AttemptsVerified(of=made.version, verdicts=verdicts, provenance=PROVENANCE.model_copy(update={"labels": labels})),
        )
        return made

    def reward(self, of: Event, phase: Phase, role: Role, task: Seat | Task, rewards: Sequence[float]) -> ExampleRun:
        """RewardGiven to an earlier event of the stream."""
        named = {"phase": phase, "role": role, "task": task, "set": self._set}
        return self._say(self.stream, RewardGiven(of=of.version, **named, rewards=tuple(rewards)))

    def generation(self, prompt: str, count: int, role: Role = "student") -> Generation:
        """`count` completions of random tokens, 3 to 8 each."""
        ids = [[self._random.randrange(self._vocabulary) for _ in range(self._random.randint(3, 8))] for _ in range(count)]
        logprobs = [[-math.log(self._vocabulary) + self._random.uniform(-0.5, 0.5) for _ in row] for row in ids]
        prompt_ids = [self._random.randrange(self._vocabulary) for _ in range(6)]
        return Generation(
            policy=self.policies[role],
            template=hashlib.sha256(b"template").hexdigest(),
            prompt=self.log.put(prompt.encode()),
            texts=self.log.put(json.dumps([" ".join(f"t{token}" for token in row) for row in ids]).encode()),
            tokens=self.log.put(pack_rollouts(prompt_ids, ids, logprobs)),
            count=count,
            length=sum(map(len, ids)),
            seed=self._random.randrange(2**31),
            sampling=self._sampling,
        )

    def _learn(self, accepted: Sequence[tuple[Question, Event]], task: Task) -> ExampleRun:
        for question, measured in accepted:
            if task == "induction":
                passing = next(
                    event.fact.verdicts
                    for event in self.log.read(self.stream, after=measured.position, kinds=("attempts_verified",))
                    if isinstance(event.fact, AttemptsVerified)
                )
                rewards = [1.0 if verdict.outcome == "passed" else -0.5 for verdict in passing]
                self.reward(measured, "solve", "student", task, rewards)
            else:
                self.reward(self.attempt("solve", question, 2, 4, task), "solve", "student", task, binary_rewards(2, 4))
        return self

    def _measure_gap(self, goalpost: Question, successes: int, attempts: int) -> None:
        self.attempt("gap", goalpost, successes, attempts)
        gap = 1 - successes / attempts
        share = 1.0 if successes else 1 / 3
        self._say(
            self.stream, GapMeasured(question=goalpost.id, successes=successes, attempts=attempts, best_share=share, gap=gap)
        )

    def _proposed(self, seat: Seat, attempt: int, parent: Question) -> Event:
        generation = self.generation(f"Vary: {parent.statement}", 1, "teacher")
        fact = QuestionProposed(seat=seat, attempt=attempt, parent=parent.id, generation=generation)
        return self.log.append(self.stream, [fact])[0]

    def _end(self, reason: str) -> ExampleRun:
        return self._say(self.stream, EpisodeFinished(reason=reason))

    def _new_question(self) -> Question:
        self._questions += 1
        return question(self._questions)

    def _blob(self, question: Question) -> BlobHash:
        return self.log.put(canonical(question))

    def _say(self, stream: str, *facts: Fact) -> ExampleRun:
        self.log.append(stream, facts)
        return self


def binary_rewards(passing: int, attempts: int) -> list[float]:
    return [1.0] * passing + [-0.5] * (attempts - passing)
