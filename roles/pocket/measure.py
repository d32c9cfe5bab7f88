"""Measures pocket weights: `python -m roles.pocket.measure` prints the figures of the model card.

Completions are judged in the sandbox, by the same verifier as in play.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Final

import typer

from events.cli.app import run_app
from events.facts.values import Axis, Question, Sampling, Seat
from events.facts.weights import weights_digest
from events.process import shutdown
from roles.model import GenerationRequest, Model
from roles.pocket import WEIGHTS
from roles.pocket.operations import FAMILIES
from roles.pocket.questions import candidates
from roles.pocket.world import generate, motifs, truth
from roles.prompt import SHIPPED_PROMPTS, Prompts
from roles.verifier import ValidProposal, Verifier
from sandbox.runner import Runner

_DEPTHS: Final = range(6)
_SAMPLES: Final = 20
_AXES: Final[tuple[Axis, ...]] = ("io", "function")
_PROPOSAL: Final = Sampling(max_tokens=224)


@dataclass(frozen=True)
class SeatQuality:
    """How a seat proposes."""

    valid: float
    """Share of proposals that can be asked."""
    aligned: float
    """Share of these whose statement means what their program does."""
    on_motif: float
    """Share of a valid proposal's operations that its parent names."""
    distinct: float
    """Share of valid proposals with a statement of their own."""
    questions: tuple[Question, ...]


class Measure:
    """Measures one model with one runner."""

    def __init__(self, model: Model, runner: Runner) -> None:
        self._model = model
        self._prompts = Prompts(SHIPPED_PROMPTS / "pocket")
        self._verifier = Verifier(runner, pairs=5, public_pairs=2, truth=truth)

    async def pass_rate(self, questions: Sequence[Question], sampling: Sampling, samples: int = _SAMPLES) -> float:
        """Mean pass rate over the questions."""
        asked = [GenerationRequest(self._prompts.induction(q).text, samples, i, sampling) for i, q in enumerate(questions)]
        rates: list[float] = []
        for question, reply in zip(questions, await self._model.generate(asked), strict=True):
            verdicts, _ = await self._verifier.judge(question, "induction", None, [c.text for c in reply.completions])
            rates.append(fmean(verdict.outcome == "passed" for verdict in verdicts))
        return fmean(rates)

    async def teaching(self, seat: Seat, parents: Sequence[Question], samples: int) -> SeatQuality:
        """Proposals of a seat for these parents, half of them for each axis."""
        ask = self._prompts.easy if seat == "easy" else self._prompts.hard
        asked = [GenerationRequest(ask(q, _AXES[i % 2]).text, samples, i, _PROPOSAL) for i, q in enumerate(parents)]
        found: list[ValidProposal] = []
        overlaps: list[float] = []
        for parent, reply in zip(parents, await self._model.generate(asked), strict=True):
            for completion in reply.completions:
                examined = await self._verifier.validate(completion.text)
                if isinstance(examined, ValidProposal):
                    found.append(examined)
                    named = motifs(examined.question.statement)
                    overlaps.append(len(named & motifs(parent.statement)) / max(1, len(named)))
        return SeatQuality(
            valid=len(found) / (len(parents) * samples),
            aligned=fmean(bool(v.aligned) for v in found),
            on_motif=fmean(overlaps),
            distinct=len({v.question.statement for v in found}) / len(found),
            questions=tuple(v.question for v in found),
        )


async def report(model: Model, runner: Runner) -> str:
    """The figures as Markdown."""
    measure = Measure(model, runner)
    lines = ["| rare operations |" + "".join(f" {m} |" for m in _DEPTHS), "|---|" + "---|" * len(_DEPTHS)]
    for name, sampling in (("T = 1", Sampling(max_tokens=48)), ("T = 0.6", Sampling(temperature=0.6, max_tokens=48))):
        rates = [await measure.pass_rate(generate("train", 40, 5, rare=(m,)), sampling) for m in _DEPTHS]
        lines.append(f"| all families, {name} |" + "".join(f" {rate:.3f} |" for rate in rates))
    for family in FAMILIES:
        sets = [generate("train", 24, 9, rare=(m,), families=(family,)) for m in _DEPTHS]
        rates = [await measure.pass_rate(questions, Sampling(max_tokens=48)) for questions in sets]
        lines.append(f"| {family}, T = 1 |" + "".join(f" {rate:.3f} |" for rate in rates))
    lines += ["", "| seat | valid | aligned | on motif | distinct |", "|---|---|---|---|---|"]
    easy = await measure.teaching("easy", candidates(0, 60), 5)
    hard = await measure.teaching("hard", easy.questions[::4], 4)
    for seat, found in (("easy", easy), ("hard", hard)):
        lines.append(f"| {seat} | {found.valid:.2f} | {found.aligned:.2f} | {found.on_motif:.2f} | {found.distinct:.2f} |")
    return "\n".join(lines)


app = typer.Typer(add_completion=False)


@app.command()
def main(weights: Annotated[Path, typer.Option(help="Weights folder to measure.")] = WEIGHTS) -> None:
    """Print pass rates by number of rare operations and family, and how well both seats teach. Needs Docker."""

    async def measured() -> str:
        from roles.models.transformers import TransformersModel
        from sandbox.host.docker_runner import DockerRunner

        model = TransformersModel(weights, weights_digest(weights))
        runner = DockerRunner()
        try:
            return await report(model, runner)
        finally:
            await runner.close()

    typer.echo(shutdown.run(measured()))


if __name__ == "__main__":
    run_app(app)
