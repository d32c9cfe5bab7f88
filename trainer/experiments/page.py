"""The page of results, in Markdown.

Guarantees: every number in it is computed from results and plots; text that comes from logs is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple, get_args

from events.facts.types import Reason
from events.facts.values import QuestionId, Seat
from events.pure.estimators import BOOTSTRAP_DRAWS, CONFIDENCE
from roles.pocket.world import read_statement
from roles.questions.load import load_questions
from trainer.experiments.claims import GUIDED, UNGUIDED, clauses, percent, points
from trainer.experiments.experiment_plan import ExperimentPlan, TableName
from trainer.experiments.figures import SEATS, TEACHER
from trainer.experiments.outcome import RunOutcome
from trainer.experiments.plots import Plot
from trainer.experiments.results import Results, WhichCheckpoint
from trainer.experiments.sections import (
    costs,
    markdown_table,
    plain,
    play_command,
    predictions,
    report_command,
    seed_table,
    setting,
)
from trainer.experiments.seed_tables import TABLES
from trainer.experiments.teacher_measures import MEASURES, pooled

PLOTS: Final = "results"
"""Name of the folder of plots, beside the page."""
BASELINES: Final = (UNGUIDED, "base")
"""Recipes that every other one is compared with."""
CHECKPOINT_TITLES: dict[WhichCheckpoint, str] = {"chosen": "the checkpoint chosen on validation", "last": "the last checkpoint"}
METHOD: Final = """\
- pass@k is the unbiased estimator of Chen et al. (arXiv 2107.03374) from all answers to a question, averaged over questions
  and seeds. The checkpoint is chosen on validation, for each run the one with the best pass@{k}, the earlier of equals; no
  test answer has a say in it. The last checkpoint needs no choice.
- Intervals hold {confidence:.0%}: percentiles of {draws} bootstrap resamples in which seeds are drawn anew, and questions are
  drawn anew, the same for all seeds. A difference is paired: its questions are drawn for both recipes together, its seeds for
  each by itself. The choice of checkpoints is not made again in a resample, and a few seeds drawn from themselves vary less
  than new ones would. Resamples have a fixed seed. Scores that are all alike have Wilson's interval over questions.
- A goalpost is solved by a success among the answers of an evaluation. "At any" grows with the number of evaluations, by
  chance too: the control is `base`, which learns nothing and is evaluated just as often, each time with other answers.
  Intervals of union shares are Wilson's, over goalposts.
- Measures of the teacher are means over proposals or questions, pooled over seeds:
{measures}
- Samples are completions. Those of evaluations are counted apart, since nothing learns from them; seconds include them, and
  whatever else the machine did."""


class Topic(NamedTuple):
    """What the page says of one kind of facts."""

    title: str
    tables: tuple[TableName, ...]
    plot: str = ""
    """Its file, if there is one."""


TOPICS: Final = (
    Topic("Certainty", ("calibration",), "reliability.svg"),
    Topic("Labels by vote", ("labels", "labels-by-composition"), "label-accuracy.svg"),
    Topic("Questions about documents", ("documents", "levels")),
    Topic("Trials", ("promotions", "trials"), "trial-gains.svg"),
)
"""Sections that the page has where runs have such facts."""


def page(name: str, results: Results, drawn: Sequence[Plot]) -> str:
    """The whole page."""
    apart = {topic.plot for topic in TOPICS}
    learning = [plot for plot in drawn if not plot.file.startswith(TEACHER) and plot.file not in apart]
    teaching = [plot for plot in drawn if plot.file.startswith(TEACHER)]
    parts = [
        f"# Results: {plain(name)}",
        "Made from the logs of the runs by the last of these commands; nothing in it is typed by hand.",
        f"```bash\n{play_command(name)}\n{report_command(name)}\n```",
        *setting(results),
        "## The claim",
        *_claim(results),
        *_tests(results, "chosen"),
        *_strata(results),
        *_tests(results, "last"),
        "## Goalposts",
        *_goalposts(results),
        "## Learning",
        "Means over seeds, and a band from the least to the most of them.",
        *_plots(learning),
        "## The teacher",
        *_teacher(results),
        *_plots(teaching),
        *_topics(results, drawn),
        "## Costs",
        *costs(results),
        "## How the numbers are made",
        METHOD.format(
            k=results.k,
            confidence=CONFIDENCE,
            draws=BOOTSTRAP_DRAWS,
            measures="\n".join(f"  - *{measure}*: {meaning}" for measure, meaning in MEASURES.items()),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def parts(plan: ExperimentPlan, results: Results, plots: Sequence[Plot], folder: str) -> dict[str, str]:
    """Every part in Markdown; plots are in a folder beside the document.

    Raises:
        BadInput: a prediction names a cell that no table has.
    """
    tables = {name: "\n\n".join(seed_table(table, results)) for name, table in TABLES.items()}
    images = {plot.file.removesuffix(".svg"): f"![{plot.description}]({folder}/{plot.file})" for plot in plots}
    return {
        "runs": "\n\n".join(setting(results)),
        **tables,
        "predictions": "\n\n".join(predictions(plan, results)),
        **images,
        "teacher": "\n\n".join(_teacher(results)),
        "costs": "\n\n".join(costs(results)),
    }


def _topics(results: Results, drawn: Sequence[Plot]) -> Iterator[str]:
    for topic in TOPICS:
        if any(TABLES[name].cells(results) for name in topic.tables):
            yield f"## {topic.title}"
            for name in topic.tables:
                yield from seed_table(TABLES[name], results)
            yield from _plots([plot for plot in drawn if plot.file == topic.plot])


def _claim(results: Results) -> Iterator[str]:
    rows = ((clause.statement, f"**{clause.verdict}**", clause.numbers) for clause in clauses(results))
    yield markdown_table(("clause", "verdict", "numbers"), rows)
    yield "A clause is open while a run that it is about is not over."
    above = [line for recipe in results.cells if recipe != GUIDED and (line := _rival_advantage(results, recipe))]
    if above:
        yield f"The claim compares `{GUIDED}` with its rivals only. At or above it where both are known: {'; '.join(above)}."


def _rival_advantage(results: Results, recipe: str) -> str:
    """In what a recipe is at or above that of the claim; empty if in nothing."""
    advantages = []
    for k in sorted({1, results.k}):
        own, claimed = (results.score(which, "chosen", k) for which in (recipe, GUIDED))
        if own is not None and claimed is not None and own.value >= claimed.value:
            advantages.append(f"test pass@{k} {100 * own.value:.1f} against {100 * claimed.value:.1f} %")
    solved, by_claimed = (len(results.union(which, "any")) for which in (recipe, GUIDED))
    if by_claimed and solved >= by_claimed:
        advantages.append(f"{solved} goalposts against {by_claimed}")
    return f"`{recipe}` ({', '.join(advantages)})" if advantages else ""


def _tests(results: Results, when: WhichCheckpoint) -> Iterator[str]:
    k = results.k
    against = [other for other in BASELINES if results.scores(other, when, k)]
    ks = sorted({1, k})
    head = ["recipe", "seeds", "after", *(f"pass@{k}" for k in ks)]
    head += [f"pass@{k} - `{other}`" for other in against for k in ks]
    rows = [
        [
            f"`{recipe}`",
            str(len(results.scores(recipe, when, k))),
            ", ".join(str(at) for outcome in outcomes.values() if (at := results.checkpoint(outcome, when)) is not None),
            *(percent(results.score(recipe, when, k)) for k in ks),
            *(points(results.difference(recipe, other, when, k)) for other in against for k in ks),
        ]
        for recipe in results.cells
        if (outcomes := results.outcomes(recipe)) and results.scores(recipe, when, k)
    ]
    yield f"## Test, {CHECKPOINT_TITLES[when]}"
    if not rows:
        yield "No run was evaluated for it."
        return
    yield markdown_table(head, rows)
    yield "*After*: iterations that each seed's checkpoint has learned from. Differences are in points."


def _strata(results: Results) -> Iterator[str]:
    k, parts = results.k, question_strata(results.questions.get("test", ()))
    rows = [
        [f"`{recipe}`", *(percent(results.score(recipe, "chosen", k, indices)) for indices in parts.values())]
        for recipe in results.cells
        if results.scores(recipe, "chosen", k)
    ]
    if parts and rows:
        yield markdown_table(["recipe", *(f"pass@{k}, {name} ({len(indices)})" for name, indices in parts.items())], rows)
        yield "*Target region*: all rare operations of the question are of those that goalposts are made of."


def question_strata(questions: Sequence[QuestionId]) -> dict[str, list[int]]:
    """Indices of the questions by stratum; empty for questions that are not the pocket world's."""
    statements = {question.id: question.statement for question in load_questions("pocket", "test").questions}
    if not questions or not statements.keys() >= set(questions):
        return {}
    strata: dict[str, list[int]] = {"target region": [], "elsewhere": []}
    for index, question in enumerate(questions):
        strata["target region" if _in_target_region(statements[question]) else "elsewhere"].append(index)
    return {name: indices for name, indices in strata.items() if indices}


def _in_target_region(statement: str) -> bool:
    """Whether all rare operations are of the region that goalposts are made of."""
    rare = [step.operation for step in read_statement(statement) or () if step.operation.rare]
    return bool(rare) and all(operation.target for operation in rare)


def _goalposts(results: Results) -> Iterator[str]:
    rows = [
        [f"`{recipe}`", *_solved(results, recipe, "last"), *_solved(results, recipe, "any"), str(results.attempts(recipe))]
        for recipe in results.cells
        if results.solved(recipe, "any")
    ]
    if not rows:
        yield "No run was evaluated on goalposts."
        return
    yield markdown_table(("recipe", "last, by seed", "last, union", "any, by seed", "any, union", "answers to each"), rows)
    yield (
        f"Solved of {len(results.questions['goalposts'])} goalposts, in the last evaluation and in any; *answers to each*: in"
        " all evaluations of all seeds. `base` is the control with equal samples: the first weights, asked as often."
    )


def _solved(results: Results, recipe: str, when: Literal["last", "any"]) -> tuple[str, str]:
    by_seed = " / ".join(str(len(solved)) for solved in results.solved(recipe, when).values())
    return by_seed, f"{len(results.union(recipe, when))}: {percent(results.union_share(recipe, when))}"


def _plots(drawn: Sequence[Plot]) -> Iterator[str]:
    for plot in drawn:
        yield f"![{plot.description}]({PLOTS}/{plot.file})"


def _teacher(results: Results) -> Iterator[str]:
    taught = [
        (recipe, seat, wrote, runs)
        for recipe in results.cells
        for runs in [list(results.outcomes(recipe).values())]
        for seat, (wrote, _) in SEATS.items()
        if any(run.teaching.proposed[seat] for run in runs)
    ]
    if not taught:
        yield "No teacher has proposed."
        return
    yield markdown_table(
        ("recipe", "wrote", "proposals", *MEASURES),
        (
            [f"`{recipe}`", wrote, str(sum(run.teaching.proposed[seat] for run in runs)), *_thirds(runs, seat)]
            for recipe, seat, wrote, runs in taught
        ),
    )
    yield "From the first third of the iterations to the last."
    reasons = get_args(Reason)
    yield markdown_table(
        ("recipe", "wrote", *(reason.replace("_", " ") for reason in reasons)),
        ([f"`{recipe}`", wrote, *_rejections(runs, seat, reasons)] for recipe, seat, wrote, runs in taught),
    )
    yield "Proposals rejected, by reason, in % of all."


def _thirds(runs: Sequence[RunOutcome], seat: Seat) -> Iterator[str]:
    first, last = (pooled(run.teaching.of(seat, run.third(last=last)) for run in runs) for last in (False, True))
    for measure in MEASURES:
        yield f"{_share(first[measure].value)} → {_share(last[measure].value)}"


def _rejections(runs: Sequence[RunOutcome], seat: Seat, reasons: Sequence[Reason]) -> Iterator[str]:
    proposed = sum(run.teaching.proposed[seat] for run in runs)
    for reason in reasons:
        yield f"{100 * sum(run.teaching.rejected[seat][reason] for run in runs) / proposed:.1f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
