"""The benchmark of the viewer: every kind of page is found by walking links, and measured."""

from pathlib import Path

import pytest

from benchmarks import web
from benchmarks.page_client import SEARCHES
from events.web.pages import PAGES


def test_a_page_has_its_json_beside_it() -> None:
    assert [web.json_address(page) for page in ("/", "/runs/a", "/runs/a/search?q=b.c")] == [
        "/index.json",
        "/runs/a.json",
        "/runs/a/search.json?q=b.c",
    ]


@pytest.mark.slow
def test_every_kind_of_page_is_found_and_measured(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    web.main(events=6000, rounds=1, starts=1, anew=1000, folder=tmp_path / "logs", document=document)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in document.read_text().splitlines()]
    measured = [row for row in rows if len(row) == 8 and row[1].endswith(" ms")]
    assert len(measured) >= len(PAGES) + len(SEARCHES)
    assert all(float(row[4].removesuffix(" kB")) < web.MOST_KB for row in measured)
    indexed = [int(row[0].replace(" ", "")) for row in rows if len(row) == 7 and row[1].endswith(" s")]
    assert len(indexed) == 1
    assert indexed[0] >= 1000
    assert str(tmp_path) not in document.read_text()
