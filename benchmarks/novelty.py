"""How similar proposals are to earlier ones by each embedding, and the pairs around a threshold, to read.

`python -m benchmarks.novelty RUN --embedding ngrams --embedding FOLDER`, or with a JSON-lines file that has `statement` and
`program`. Every proposal counts as accepted, which a run's log does not do; so the shares rejected here are upper bounds.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.sparse import issparse

from benchmarks.command import run_main
from benchmarks.rounds import table
from events.cli.app import holds_log, locate_log
from events.facts.errors import BadInput
from events.facts.questions import readable_question
from events.facts.types import QuestionRejected, QuestionValidated
from events.facts.values import IOPair, Question
from events.stores import is_url, open_log
from events.text.safe_text import clean
from roles.judging.similarity import Novelty, embedding

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
THRESHOLDS = (0.8, 0.85, 0.9, 0.925, 0.95, 0.975)


def texts_of(source: str) -> list[str]:
    """The texts that novelty compares, in order: of a run's valid proposals, novel or not, or of a file's questions."""
    if is_url(source) or holds_log(Path(source)) or source.endswith(".sqlite"):
        with closing(open_log(locate_log(source), read_only=True)) as log:
            blobs = [
                event.fact.blob
                for event in log.read(kinds=("question_validated", "question_rejected"))
                if isinstance(event.fact, QuestionValidated)
                or (isinstance(event.fact, QuestionRejected) and event.fact.reason == "not_novel")
            ]
            questions = [readable_question(log, blob) for blob in blobs]
        return [Novelty.text(question) for question in questions if question is not None]
    try:
        records = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines() if line.strip()]
        # Only statement and program are read of these questions, but none is without a pair.
        pairs = (IOPair(input="", output=""),)
        return [Novelty.text(Question(statement=r["statement"], program=r.get("program"), private=pairs)) for r in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{source} is neither a run nor JSON lines with a statement and a program ({error}).") from error


def similarities(texts: list[str], name: str) -> Any:
    """Cosine similarity of each text to each earlier one [N, N]; -1 on and above the diagonal."""
    rows = embedding(name)(texts)
    product = rows @ rows.T
    return np.where(np.tri(len(texts), k=-1, dtype=bool), product.toarray() if issparse(product) else product, -1.0)


def main(
    source: Annotated[str, typer.Argument(help="A run, its log, or a JSON-lines file.")],
    embeddings: Annotated[
        list[str] | None, typer.Option("--embedding", help="`ngrams` or an encoder's folder; repeat it.")
    ] = None,
    around: Annotated[float, typer.Option(help="Show pairs whose similarity is near this one.")] = 0.95,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs to show for each embedding.")] = 5,
) -> None:
    """Print how similar each proposal is to the nearest earlier one, and the pairs around a threshold."""
    texts = texts_of(source)
    if len(texts) < 2:
        raise BadInput(f"{source} holds {len(texts)} proposals with a program; two are needed for a pair.")
    figures, shown = [], []
    for name in embeddings or ["ngrams"]:
        matrix = similarities(texts, name)
        nearest, highest = matrix.argmax(axis=1)[1:], matrix.max(axis=1)[1:]
        shares = [f"{(highest > threshold).mean():.1%}" for threshold in THRESHOLDS]
        figures.append([name, *(f"{value:.3f}" for value in np.quantile(highest, QUANTILES)), *shares])
        for later in np.argsort(abs(highest - around), kind="stable")[:pairs]:
            shown += [f"\n=== {name}: {highest[later]:.3f}", texts[nearest[later]], "--- and", texts[later + 1]]
    head = ["embedding", *(f"quantile {q:g}" for q in QUANTILES), *(f"> {threshold:g}" for threshold in THRESHOLDS)]
    lines = [f"{len(texts)} proposals; the highest similarity to an earlier one:", "", *table(head, figures), *shown]
    sys.stdout.write(clean("\n".join(lines)) + "\n")


if __name__ == "__main__":
    run_main(main)
