"""Measures pocket weights: `python -m roles.pocket.measure GENERATION` prints the figures of the model card.

Completions are judged in the sandbox, by the same verifier as in play.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Final

import typer

from events.cli.app import run_app
from events.facts.values import LEVELS, Axis, Question, QuestionId, Sampling
from events.facts.weights import weights_digest
from events.process import shutdown
from roles.certainty_words import WORDS
from roles.given_text import answer_of, certainty_question
from roles.judging.proposal_validator import ValidProposal
from roles.model import GenerationRequest, Model
from roles.pocket.generation import FIRST, GENERATIONS, PocketGeneration, named_generation
from roles.pocket.operations import FAMILIES
from roles.pocket.questions import candidates
from roles.pocket.world import difficulty, generate, grounded, motifs, opener, read_statement, truth
from roles.prompt import Prompts, Rendered
from roles.prompt_set import SHIPPED_PROMPTS
from roles.questions.load import load_questions
from roles.verifier import Verifier
from sandbox.runner import Runner

_DEPTHS: Final = range(6)
_AXES: Final[tuple[Axis, ...]] = ("io", "function")
_PROGRAM: Final = Sampling(max_tokens=48)
_PROPOSAL: Final = Sampling(max_tokens=224)

Ask = Callable[[Question], Rendered]


@dataclass(frozen=True)
class Proposals:
    """What prompts of a teacher are answered with."""

    valid: float
    """Share of proposals that can be asked."""
    aligned: float
    """Share of these whose statement means what their program does."""
    on_motif: float
    """Share of a valid proposal's operations that its prompt names."""
    distinct: float
    """Share of valid proposals with a statement of their own."""
    questions: tuple[Question, ...]
    """The valid ones."""
    prompts: tuple[int, ...]
    """Number of the prompt of each of them."""

    @property
    def cells(self) -> Sequence[float]:
        """Valid, aligned, on motif and distinct."""
        return (self.valid, self.aligned, self.on_motif, self.distinct)


class Measure:
    """Measures one model with one runner."""

    def __init__(self, model: Model, runner: Runner, prompts: Prompts, samples: int = 20) -> None:
        self._samples = samples
        self._model = model
        self._verifier = Verifier(runner, pairs=5, public_pairs=2, truth=truth)
        self.prompts = prompts

    async def pass_rate(self, questions: Sequence[Question], sampling: Sampling = _PROGRAM, ask: Ask | None = None) -> float:
        """Mean pass rate over the questions; `ask`: the prompt, `induction` if None."""
        ask = ask or self.prompts.induction
        requests = [GenerationRequest(ask(q).text, self._samples, i, sampling) for i, q in enumerate(questions)]
        rates: list[float] = []
        for asked, reply in zip(questions, await self._model.generate(requests), strict=True):
            verdicts = (await self._verifier.judge(asked, "induction", None, [c.text for c in reply.completions])).verdicts
            rates.append(fmean(verdict.outcome == "passed" for verdict in verdicts))
        return fmean(rates)

    async def proposals(self, asked: Sequence[tuple[Rendered, frozenset[str]]], samples: int) -> Proposals:
        """Proposals for these prompts, which name these operations."""
        requests = [GenerationRequest(prompt.text, samples, i, _PROPOSAL) for i, (prompt, _) in enumerate(asked)]
        accepted: list[ValidProposal] = []
        prompts: list[int] = []
        overlaps: list[float] = []
        for number, ((_, shown), reply) in enumerate(zip(asked, await self._model.generate(requests), strict=True)):
            for completion in reply.completions:
                examined = await self._verifier.validate(completion.text)
                if isinstance(examined, ValidProposal):
                    accepted.append(examined)
                    prompts.append(number)
                    named = motifs(examined.question.statement)
                    overlaps.append(len(named & shown) / max(1, len(named)))
        return Proposals(
            valid=len(accepted) / (len(asked) * samples),
            aligned=fmean(bool(proposal.aligned) for proposal in accepted),
            on_motif=fmean(overlaps),
            distinct=len({proposal.question.statement for proposal in accepted}) / len(accepted),
            questions=tuple(proposal.question for proposal in accepted),
            prompts=tuple(prompts),
        )

    async def sure(self, questions: Sequence[Question], samples: int) -> float:
        """Share of those that say that they are sure, of those that say either, after the question's own program."""
        asked = certainty_question(self.prompts)
        texts = [f"{self.prompts.induction(q).text}{answer_of(self.prompts, q)}{asked}" for q in questions]
        sampling = Sampling(max_tokens=1)
        replies = await self._model.generate([GenerationRequest(t, samples, i, sampling) for i, t in enumerate(texts)])
        counts = Counter(completion.text for reply in replies for completion in reply.completions)
        return counts[WORDS[True]] / max(1, counts[WORDS[True]] + counts[WORDS[False]])


async def report(measure: Measure, generation: PocketGeneration) -> str:
    """The figures as Markdown."""
    lines = [_header("rare operations", _DEPTHS)]
    for name, sampling in (("T = 1", _PROGRAM), ("T = 0.6", _PROGRAM.model_copy(update={"temperature": 0.6}))):
        rates = [await measure.pass_rate(generate("train", 40, 5, rare=(m,)), sampling) for m in _DEPTHS]
        lines.append(_row(f"all families, {name}", rates, 3))
    for family in FAMILIES:
        sets = [generate("train", 24, 9, rare=(m,), families=(family,)) for m in _DEPTHS]
        lines.append(_row(f"{family}, T = 1", [await measure.pass_rate(questions) for questions in sets], 3))
    lines += ["", _header("seat", ("valid", "aligned", "on motif", "distinct"))]
    goalposts = [(q, _AXES[i % 2]) for i, q in enumerate(candidates(0, 60))]
    easy = await measure.proposals([(measure.prompts.easy(q, axis), motifs(q.statement)) for q, axis in goalposts], 5)
    lemmas = [(q, _AXES[i % 2]) for i, q in enumerate(easy.questions[::4])]
    hard = await measure.proposals([(measure.prompts.hard(q, axis), motifs(q.statement)) for q, axis in lemmas], 4)
    lines += [_row("easy", easy.cells), _row("hard", hard.cells)]
    if "topic" in generation.kinds:
        lines += ["", *[line async for line in _kinds(measure)]]
    if "document" in generation.kinds:
        lines += ["", *[line async for line in _documents(measure)]]
    return "\n".join(lines)


async def _kinds(measure: Measure) -> AsyncIterator[str]:
    """The kinds of prompts that the second generation adds."""
    prompts, sets = measure.prompts, [generate("train", 40, 5, rare=(m,)) for m in _DEPTHS]
    yield _header("rare operations", _DEPTHS)
    yield _row("no pairs, T = 1", [await measure.pass_rate(questions, ask=prompts.unpaired) for questions in sets], 3)
    yield ""
    yield _header("topic", ("valid", "aligned", "distinct", "pass rate without pairs"))
    for family in FAMILIES:
        topic = opener(family).removeprefix("Given ")
        made = await measure.proposals([(prompts.topic(topic, sets[0][0]), frozenset())], 60)
        rate = await measure.pass_rate(made.questions, ask=prompts.unpaired)
        yield _row(topic, (made.valid, made.aligned, made.distinct, rate))
    yield f"\n`I am sure.` rather than `I am unsure.` after right answers: {await measure.sure(sets[1], 10):.2f}"


async def _documents(measure: Measure) -> AsyncIterator[str]:
    """What is written about documents at each level, and answered with and without them."""
    prompts, documents = measure.prompts, load_questions("pocket", "documents").questions
    columns = ("valid", "aligned", "grounded", "rare operations", "pass rate with the document", "without")
    yield _header("level", columns)
    for level in LEVELS:
        made = await measure.proposals([(prompts.document(document, level), frozenset()) for document in documents], 4)
        about = {question.id: documents[n] for question, n in zip(made.questions, made.prompts, strict=True)}
        held = [question for question in made.questions if grounded(question.statement, about[question.id].statement)]
        rare = fmean(difficulty(steps) for question in held if (steps := read_statement(question.statement)))
        informed = await measure.pass_rate(held, ask=partial(_informed, prompts, about))
        alone = await measure.pass_rate(held, ask=prompts.unpaired)
        yield _row(level, (made.valid, made.aligned, len(held) / len(made.questions), rare, informed, alone))


def _informed(prompts: Prompts, about: Mapping[QuestionId, Question], asked: Question) -> Rendered:
    return prompts.informed(asked, about[asked.id])


def _header(first: str, columns: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, (first, *columns))) + " |\n|" + "---|" * (len(columns) + 1)


def _row(name: str, cells: Sequence[float], digits: int = 2) -> str:
    return f"| {name} | " + " | ".join(f"{cell:.{digits}f}" for cell in cells) + " |"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    generation: Annotated[str, typer.Argument(metavar="GENERATION", help=f"One of {', '.join(GENERATIONS)}.")] = FIRST.name,
    samples: Annotated[int, typer.Option(min=1, help="Answers to each question whose pass rate is measured.")] = 20,
    weights: Annotated[Path | None, typer.Option(help="Weights folder to measure [default: the shipped one].")] = None,
) -> None:
    """Print pass rates by number of rare operations and family, and how well the teacher's seats teach. Needs Docker."""
    made = named_generation(generation)
    folder = weights or made.weights

    async def measured() -> str:
        from roles.models.transformers import TransformersModel
        from sandbox.host.docker_runner import DockerRunner

        model = TransformersModel(folder, weights_digest(folder))
        runner = DockerRunner()
        try:
            return await report(Measure(model, runner, Prompts(SHIPPED_PROMPTS / made.name), samples), made)
        finally:
            await runner.close()

    typer.echo(shutdown.run(measured()))


if __name__ == "__main__":
    run_app(app)
