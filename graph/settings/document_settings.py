"""Settings of recipes whose questions are about documents."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from graph.recipes.rewards import SettingsGroup
from graph.settings.number_types import PositiveInt


class DocumentSettings(SettingsGroup):
    """How questions about documents are written and labelled; only recipes that write about documents read it."""

    source: str = "pocket"
    """Question set whose statements, each with its program if it has one, are the documents; see docs/documents.md."""
    iterations: PositiveInt = 20
    """Iterations in which the teacher learns to write about documents, before its pool is made."""
    proposals: Annotated[int, Field(ge=2, le=1_000)] = 4
    """Proposals about a document at a level in an iteration, which are compared with each other [DARC: 8]."""
    attempts: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Answers that see the document and vote on a question's label [DARC: 8]."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Fewest of them that must agree, as a share, for the student to learn from a question of the pool [DARC: 0.3]."""
    copied: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of a statement's character 6-grams that are in its document above which it is copied [DARC: 0.8]."""
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Cosine similarity above which only one of two questions stays in the pool [DARC: 0.6]; see `verify.embedding`."""
