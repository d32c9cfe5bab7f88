"""What becomes of a model's proposals: how many are valid, novel and in the band, by seat and axis, before any learning.

    python -m benchmarks.proposals MODEL --questions SPEC --prompts short --count 100

The easy seat varies the questions as goalposts, the hard seat varies those of them that have a program. Axes take turns. With
`--attempts` the same model, as the student, answers what is valid and novel, which takes most of the time.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.command import run_main
from benchmarks.rounds import table
from events.cli.output import show_activity
from events.facts.errors import BadInput
from events.facts.values import Axis, Question, Sampling, Seat, count_passed
from events.facts.weights import weights_digest
from events.process import shutdown
from events.process.activity import Activity
from events.text.safe_text import clean, one_line
from graph.recipes.gasp import Gasp
from graph.settings.model_location import model_folder
from graph.settings.seeds import derive_seed
from graph.settings.threads import default_threads
from roles.judging.proposal_validator import RejectedProposal
from roles.judging.similarity import Novelty, embedding
from roles.model import Model
from roles.prompt import Prompts
from roles.questions.load import load_questions
from roles.verifier import Verifier

AXES: tuple[Axis, ...] = ("io", "function")
MOST_SIMILAR = 0.95
"""As the setting `verify.similarity`."""


@dataclass(frozen=True)
class ProposalOutcome:
    """A proposal, and what became of it."""

    axis: Axis
    text: str
    """The completion."""
    reason: str
    """Why it was rejected, as in `QuestionRejected`; `valid` or, where the student tried it, its band."""
    detail: str = ""
    question: Question | None = None
    successes: int | None = None
    """Attempts of the student that passed; None where it did not try."""


async def propose(
    model: Model, verifier: Verifier, prompts: Prompts, questions: Sequence[Question], seat: Seat, seed: int, sampling: Sampling
) -> list[ProposalOutcome]:
    """A proposal for each question, in one batch, validated and compared with those before it.

    In the hard seat it is compared with the questions, too: a run has accepted them before.
    """
    axes = [AXES[number % 2] for number in range(len(questions))]
    ask = prompts.easy if seat == "easy" else prompts.hard
    asked = [ask(question, axis) for question, axis in zip(questions, axes, strict=True)]
    replies = await model.generate(
        [prompts.request(prompt, 1, derive_seed(seed, seat, number), sampling) for number, prompt in enumerate(asked)]
    )
    novelty, outcomes = Novelty(embedding("ngrams")), []
    for question in questions if seat == "hard" else ():
        novelty.add(question)
    for axis, reply in zip(axes, replies, strict=True):
        text = reply.completions[0].text
        result = await verifier.validate(text)
        if isinstance(result, RejectedProposal):
            outcomes.append(ProposalOutcome(axis, text, result.reason, result.detail))
            continue
        similar = novelty.similarity(result.question) > MOST_SIMILAR
        novelty.add(result.question)
        outcomes.append(ProposalOutcome(axis, text, "not_novel" if similar else "valid", question=result.question))
    return outcomes


async def attempt(
    model: Model,
    verifier: Verifier,
    prompts: Prompts,
    outcomes: Sequence[ProposalOutcome],
    seat: Seat,
    attempts: int,
    sampling: Sampling,
) -> list[ProposalOutcome]:
    """The outcomes with the band of what is valid and novel, by so many attempts of the student at each."""
    asked = [(outcome, outcome.question) for outcome in outcomes if outcome.reason == "valid" and outcome.question]
    replies = await model.generate(
        [
            prompts.request(prompts.induction(question), attempts, derive_seed(number, "attempts"), sampling)
            for number, (_, question) in enumerate(asked)
        ]
    )
    tried: dict[int, ProposalOutcome] = {}
    for (outcome, question), reply in zip(asked, replies, strict=True):
        judged = await verifier.judge(question, "induction", None, [completion.text for completion in reply.completions])
        successes = count_passed(judged.verdicts)
        band = Gasp().band(seat, successes, attempts)
        tried[id(outcome)] = ProposalOutcome(outcome.axis, outcome.text, band, "", question, successes)
    return [tried.get(id(outcome), outcome) for outcome in outcomes]


def report(seat: Seat, outcomes: Sequence[ProposalOutcome], attempts: int) -> list[str]:
    """A table in Markdown: a row an axis and one for both, and the reasons of rejection below it."""
    head = ["seat", "axis", "proposed", "valid", "novel"] + (["passed at least once", "in band"] if attempts else [])
    rows = []
    for name, axes in (*((axis, (axis,)) for axis in AXES), ("both", AXES)):
        chosen = [outcome for outcome in outcomes if outcome.axis in axes]
        valid = [outcome for outcome in chosen if outcome.question is not None]
        novel = [outcome for outcome in valid if outcome.reason != "not_novel"]
        counts = [len(chosen), len(valid), len(novel)]
        if attempts:
            counts += [sum(bool(outcome.successes) for outcome in novel), sum(outcome.reason == "in_band" for outcome in novel)]
        rows.append([seat, name, *map(str, counts)])
    reasons = Counter(f"{outcome.reason}: {one_line(outcome.detail, 60)}".removesuffix(": ") for outcome in outcomes)
    return [*table(head, rows), "", *(f"{count:4} {reason}" for reason, count in reasons.most_common())]


def main(
    model: Annotated[str, typer.Argument(help="As the setting `model`.")],
    questions: Annotated[str, typer.Option(metavar="SPEC", help="Questions to vary, as in a run's settings.")] = "pocket",
    prompts: Annotated[str, typer.Option(metavar="SET", help="A prompt set, shipped or a folder.")] = "short",
    seat: Annotated[Literal["easy", "hard"], typer.Option(help="Who proposes.")] = "easy",
    count: Annotated[int, typer.Option(min=1, help="Proposals, each of another question, drawn by the seed.")] = 100,
    attempts: Annotated[int, typer.Option(min=0, help="Attempts of the student at each valid proposal; 0 for none.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a proposal.")] = 400,
    temperature: Annotated[float, typer.Option(min=0, help="Of proposals; the student answers at 1.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Draws questions and tokens.")] = 0,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Of weights and computation.")] = "bfloat16",
    show: Annotated[int, typer.Option(min=0, help="Proposals to print.")] = 0,
) -> None:
    """Print what becomes of a model's proposals. Needs Docker."""
    prompt_set, folder = Prompts.named(prompts), model_folder(model)
    loaded = [q for q in load_questions(questions, "train").questions if seat == "easy" or q.program is not None]
    if len(loaded) < count:
        raise BadInput(f"Question set {questions} has {len(loaded)} questions for the {seat} seat, fewer than --count {count}.")
    drawn = random.Random(seed).sample(loaded, count)  # noqa: S311 (draws, not secrets)

    async def measured() -> list[ProposalOutcome]:
        from roles.models.transformers import TransformersModel
        from sandbox.host.docker_runner import DockerRunner

        activity = Activity()
        served = TransformersModel(
            folder,
            weights_digest(folder),
            max_prompt_tokens=2048,
            threads=default_threads(folder),
            dtype=dtype,
            activity=activity,
        )
        runner = DockerRunner(run="proposals")
        verifier = Verifier(runner, pairs=5, public_pairs=2)
        try:
            with show_activity(activity):
                proposing = Sampling(temperature=temperature, max_tokens=max_tokens)
                outcomes = await propose(served, verifier, prompt_set, drawn, seat, seed, proposing)
                answering = Sampling(max_tokens=max_tokens)
                return (
                    await attempt(served, verifier, prompt_set, outcomes, seat, attempts, answering) if attempts else outcomes
                )
        finally:
            await runner.close()

    outcomes = shutdown.run(measured())
    lines = [
        f"{Path(model).name}, prompts {prompts}, {questions.partition('?')[0].partition(':')[0]}, temperature {temperature:g}",
        "",
    ]
    lines += report(seat, outcomes, attempts)
    for outcome in outcomes[:show]:
        lines += ["", f"=== {outcome.reason} {outcome.detail}", outcome.text]
    sys.stdout.write(clean("\n".join(lines)) + "\n")


if __name__ == "__main__":
    run_main(main)
