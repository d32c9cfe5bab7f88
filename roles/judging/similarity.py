"""Novelty: similarity of a question to those accepted before (paper, section 3.4).

It is the cosine similarity of embedded statement and program to all accepted questions, lemmas and lifts together. The paper
does not name its embedding, so it is exchangeable. Ours besides: the program of an accepted question is not novel whatever its
statement says, since a small model varies a question by words that ask for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from events.facts.errors import BadInput
from events.facts.values import Question
from events.pure.program_structure import structure_hash


class Embedding(Protocol):
    """Maps texts to unit vectors."""

    @property
    def digest(self) -> str | None:
        """SHA-256 (hex) of its weights; None where it has none."""
        ...

    def __call__(self, texts: Sequence[str]) -> Any:
        """Rows of unit length, shape [N, D], dense or scipy-sparse."""
        ...


class NgramEmbedding:
    """Hashed word n-grams (1 to 3) by scikit-learn: stateless, without weights, equal on every machine."""

    digest = None

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self._vectorise = HashingVectorizer(
            n_features=2**18, ngram_range=(1, 3), token_pattern=r"\w+|[^\w\s]+", norm="l2", alternate_sign=False
        )

    def __call__(self, texts: Sequence[str]) -> Any:
        """Rows of unit length, scipy-sparse [N, 2^18]."""
        return self._vectorise.transform(texts)


def embedding(spec: str) -> Embedding:
    """The embedding that a setting names: `ngrams`, or an encoder's folder; BadInput if it is neither."""
    if spec == "ngrams":
        return NgramEmbedding()
    folder = Path(spec).expanduser()
    if not (folder / "config.json").is_file():
        raise BadInput(f"There is no embedding {spec!r}: it is neither 'ngrams' nor a folder with config.json; check the path.")
    from roles.judging.encoder import EncoderEmbedding

    return EncoderEmbedding(folder)


class Novelty:
    """Embeddings and structure hashes of the questions accepted so far; rebuilt from the log, never stored."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding
        self._rows: Any = None
        self._programs: set[str] = set()

    def copy(self) -> Novelty:
        """An independent copy, which holds the same questions."""
        copied = self.empty()
        copied._rows, copied._programs = self._rows, set(self._programs)
        return copied

    def empty(self) -> Novelty:
        """One without questions, with the same embedding."""
        return Novelty(self._embedding)

    @staticmethod
    def text(question: Question) -> str:
        """The text that is embedded: statement and program."""
        return f"{question.statement}\n{question.program or ''}"

    def similarity(self, question: Question) -> float:
        """Largest cosine similarity to an accepted question, 0 to 1; 0 if none was accepted."""
        if self._rows is None:
            return 0.0
        return float((self._rows @ self._embedding([self.text(question)]).T).max())

    def has_program(self, question: Question) -> bool:
        """Whether an accepted question has its program, but for names, comments and layout."""
        return question.program is not None and structure_hash(question.program) in self._programs

    def is_novel(self, question: Question, limit: float) -> bool:
        """Whether no accepted question has its program or a similarity above `limit` to it."""
        return self.similarity(question) <= limit and not self.has_program(question)

    def add(self, *questions: Question) -> None:
        """Add accepted questions."""
        if not questions:
            return
        from scipy.sparse import csr_matrix, vstack

        self._programs |= {structure_hash(question.program) for question in questions if question.program is not None}
        rows = csr_matrix(self._embedding([self.text(question) for question in questions]))
        self._rows = rows if self._rows is None else vstack([self._rows, rows], format="csr")
