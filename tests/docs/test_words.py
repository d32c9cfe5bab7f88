"""Code, settings and documents use the field's words; a coined word that was replaced does not come back."""

import re

from tests.support.paths import ROOT

REPLACED = {
    "examination": "evaluation", "examiner": "evaluator", "lesson": "step batch", "pupil": "policy",
    "syllabus": "update schedule", "put up": "record", "twin": "JSON endpoint, copy", "nursery": "fork server",
    "bell": "notifier", "ears": "subscription", "hears": "is notified of", "bury": "reap",
    "become nobody": "drop to uid 65534", "fingerprint": "logprobs of a fixed text", "law:": "Guarantees:",
}  # fmt: skip
"""Coined words, each with the word of the field that stands for it."""
PATTERN = re.compile(rf"(?<![a-z])({'|'.join(REPLACED)})s?(?![a-z])", re.IGNORECASE)
FOLDERS = ("events", "sandbox", "roles", "graph", "trainer", "benchmarks", "configs", "docs", "tests")
SUFFIXES = {".py", ".md", ".toml", ".html", ".js", ".css", ".yaml"}


def test_no_replaced_word_is_used() -> None:
    files = [path for name in FOLDERS for path in (ROOT / name).rglob("*") if path.suffix in SUFFIXES]
    files += [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", ROOT / "pyproject.toml"]
    uses = [
        f"{path.relative_to(ROOT)}:{number}: say {REPLACED[word[1].lower()]!r} for {word[1]!r}"
        for path in files
        if path.name != "test_words.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for word in PATTERN.finditer(line)
    ]
    assert len(files) > 500
    assert not uses, "\n".join(uses)
