"""Where things lie, for tests."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
HOSTILE = ROOT / "tests" / "hostile"
