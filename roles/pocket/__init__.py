"""The pocket world: small real questions, and a tiny transformer that half knows how to answer them."""

from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"
"""The weights that ship with the project."""
QUESTIONS: Final = Path(__file__).parent / "questions"
"""The question files that ship with the project, one a split."""
