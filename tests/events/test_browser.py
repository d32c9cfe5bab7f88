"""The viewer as people use it: a real browser at the real server, a recorded run, a hostile one, and one that is being played."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from events.stores import open_log
from events.web.pages import PAGES
from tests.support.browser import (
    AUDIT_SCRIPT,
    PHONE,
    BrowserMonitor,
    VisitedPage,
    chromium,
    crawl_pages,
    find_chromium,
    viewer_server,
    wait_for_index,
)
from tests.support.example_runs import ExampleRun, example_run
from tests.support.viewer_client import CONTROL_CHARACTERS, HOSTILE_HTML, add_hostile_goalpost, record_run

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; .ci/chromium installs it")

HOSTILE = f"<img src=x onerror=alert(5)>{CONTROL_CHARACTERS}"
"""What the hostile run is called."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a recorded run and a hostile one; tests add others."""
    folder = tmp_path_factory.mktemp("runs")
    recorded = example_run(open_log(folder / "recorded" / "log.sqlite", create=True)).run(recipe="gasp", seed=1).goalpost(4)
    recorded.evaluate("test", successes=3)
    for solved in range(3):
        recorded.start(6)
        for place in range(4):
            recorded.episode(gap_successes=place * solved, rejected=("not_novel",), task="induction" if place else "deduction")
        recorded.practice().fail().finish().update().evaluate("test", successes=solved + 4)
    recorded.end().log.close()
    example = record_run(folder / HOSTILE, iterations=0)
    add_hostile_goalpost(example)
    example.log.close()
    return folder


@pytest.fixture(scope="module")
def growing_run(runs: Path, monitor: BrowserMonitor) -> Iterator[ExampleRun]:
    """The run that goes on: what a test tells is in its log at once, as if it were played. The crawl comes before it."""
    example = record_run(runs / "growing", iterations=1)
    wait_for_index(monitor.address, "growing")
    yield example
    example.log.close()


@pytest.fixture(scope="module")
def monitor(runs: Path) -> Iterator[BrowserMonitor]:
    with viewer_server(runs) as address:
        wait_for_index(address, "recorded")
        yield BrowserMonitor(address)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(str(CHROMIUM)) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, monitor: BrowserMonitor) -> Iterator[Page]:
    """A page in a fresh profile; nothing may have gone wrong in it by the end."""
    before = len(monitor.problems)
    with monitor.context(browser) as context:
        yield context.new_page()
    assert not monitor.problems[before:]


@pytest.fixture(scope="module")
def visited_pages(browser: Browser, monitor: BrowserMonitor) -> list[VisitedPage]:
    """Every kind of page of every run, in light, in dark and on a phone; $GASP_SCREENSHOTS says where pictures of them go."""
    pictures = os.environ.get("GASP_SCREENSHOTS")
    with monitor.context(browser) as context:
        return list(crawl_pages(context.new_page(), Path(pictures) if pictures else None, "recorded"))


def test_every_page_is_reached_and_nothing_fails_complains_or_leaves(
    visited_pages: list[VisitedPage], monitor: BrowserMonitor
) -> None:
    assert {seen.kind for seen in visited_pages} == set(PAGES)
    assert not monitor.problems
    assert all(url.startswith((f"{monitor.address}/", "data:")) for url in monitor.asked)


def test_what_a_model_wrote_stays_text_in_a_real_browser(visited_pages: list[VisitedPage], monitor: BrowserMonitor) -> None:
    assert not [seen.address for seen in visited_pages if seen.pwned]
    assert not [problem for problem in monitor.problems if problem.startswith("dialog")]
    pages = [seen for seen in visited_pages if "alert(" in seen.text]
    kinds = {seen.kind.rpartition("/runs/{run}")[2].split("/")[1] for seen in pages if seen.kind.count("/") > 2}
    assert {"goalposts", "questions", "answers", "attempts"} <= kinds
    assert any(HOSTILE_HTML in seen.text for seen in pages)
    assert any("<img src=x onerror=alert(5)>" in seen.text for seen in visited_pages if seen.kind == "/")
    assert not [seen.address for seen in visited_pages if set(seen.text) & set("\x1b\u202e\u2066")]


@pytest.mark.parametrize("looked_for", ["light", "dark", "mute", "focus", "dark focus", "phone"])
def test_every_page_can_be_read_heard_and_tabbed_through_in_every_light_and_width(
    visited_pages: list[VisitedPage], looked_for: str
) -> None:
    assert not {seen.address: seen.complaints[looked_for] for seen in visited_pages if seen.complaints[looked_for]}


def test_what_measures_pages_notices_what_is_wrong(page: Page) -> None:
    page.set_content(
        """<p style="color: #767676">4.54</p> <p style="color: #777">4.48</p> <p style="opacity: .5; color: #222">see-through</p>
        <div style="background: #123"><svg role="img" aria-label="drawn"><text y="20" fill="#234">drawn</text></svg></div>
        <input placeholder="nameless" style="outline: none"> <table><tr><td>data</td></tr></table> <h4>deep</h4> <nav></nav>
        <div style="width: 2000px">wide</div>"""
    )
    pale = page.evaluate(AUDIT_SCRIPT, "pale")
    assert [line.partition(" : ")[0] for line in pale if line.startswith("4.")] == ["4.48"]
    assert [word for word in ("see-through", "drawn") if not any(word in line for line in pale)] == []
    mute = " ".join(page.evaluate(AUDIT_SCRIPT, "mute"))
    for wrong in "no language", "0 of h1", "level 4", "no label: <input>", "no caption", "no label: <nav>":
        assert wrong in mute
    page.keyboard.press("Tab")
    assert page.evaluate(AUDIT_SCRIPT, "unfocused") == ["<input> "]
    assert "2000" in page.evaluate(AUDIT_SCRIPT, "wide")[0] or "2008" in page.evaluate(AUDIT_SCRIPT, "wide")[0]


def test_a_node_of_the_tree_shows_that_it_has_the_focus(page: Page) -> None:
    page.goto("/runs/recorded/goalposts")
    page.click(".goalposts tbody a")
    drawing = page.get_by_role("group", name="Curriculum tree")
    page.keyboard.press("Tab")
    before = drawing.screenshot()
    drawing.locator("a").nth(1).focus()
    assert drawing.screenshot() != before


def test_a_run_that_is_played_moves_by_itself_and_keeps_focus_scroll_and_what_is_open(
    page: Page, growing_run: ExampleRun
) -> None:
    page.set_viewport_size({"width": 500, "height": 500})
    page.goto("/runs/growing")
    page.evaluate("window.mine = true")
    page.click("figure summary")
    link = page.locator("#iterations tbody a", has_text="1").last
    link.focus()
    was = page.evaluate(
        "() => { document.querySelector('#iterations .scroll').scrollLeft = 60;"
        " return [scrollY, document.activeElement.href, document.querySelector('#iterations .scroll').scrollLeft]; }"
    )
    assert was[0] > 0
    growing_run.play()
    expect(page.locator("#iterations tbody tr")).to_have_count(2)
    growing_run.play()
    expect(page.locator("#iterations tbody tr")).to_have_count(3)
    now = page.evaluate("[scrollY, document.activeElement.href, document.querySelector('#iterations .scroll').scrollLeft]")
    assert now[1:] == was[1:]
    assert abs(now[0] - was[0]) < 200
    assert page.evaluate("window.mine"), "the page was loaded again"
    expect(page.locator("figure details").first).to_have_attribute("open", "")


def test_goalposts_questions_and_the_list_of_runs_move_as_well(page: Page, growing_run: ExampleRun, runs: Path) -> None:
    page.goto("/runs/growing/goalposts")
    growing_run.goalpost()
    expect(page.locator("#goalposts tbody tr")).to_have_count(len(growing_run.goalposts))
    page.locator("#goalposts tbody a").first.click()
    growing_run.play(guided=len(growing_run.goalposts))
    expect(page.locator("article.episode h3").first).to_contain_text(f"Iteration {growing_run.iteration}:")
    page.goto("/")
    lines = page.locator("#runs tbody tr").count()
    record_run(runs / "later", iterations=1).log.close()
    expect(page.locator("#runs tbody tr")).to_have_count(lines + 1)


def test_the_end_of_a_run_is_told(page: Page, runs: Path) -> None:
    page.goto("/")
    example = record_run(runs / "ending", iterations=1)
    page.get_by_role("link", name="ending").click()
    expect(page.locator("#status")).to_contain_text("Playing")
    example.end().log.close()
    expect(page.locator("#status")).to_contain_text("Finished")


def test_search_finds_says_what_it_cannot_read_and_goes_to_the_answers(page: Page) -> None:
    page.goto("/runs/recorded")
    page.fill("#q", "verdict:wrong_answer purpose:gap")
    page.press("#q", "Enter")
    expect(page.locator("h2", has_text="Found")).to_be_visible()
    page.locator(".hits a").first.click()
    expect(page.locator("#answers .verdict.poor").first).to_have_text("wrong answer")
    page.fill("#q", "nothing_like_it:1 (")
    page.press("#q", "Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.fill("#query", '"Add 1001 to"')
    page.get_by_role("main").get_by_role("button", name="Search").click()
    expect(page.locator(".hits mark").first).to_be_visible()


def test_goalposts_are_sorted_by_their_headings_and_filtered(page: Page) -> None:
    page.goto("/runs/recorded/goalposts")
    heading = page.get_by_role("columnheader", name="Best tests")

    def column() -> list[float]:
        texts = page.locator("#goalposts tbody tr > td:nth-child(5)").all_inner_texts()
        return [float(text.removesuffix("%")) for text in texts]

    heading.get_by_role("link").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert column() == sorted(column())
    assert len(set(column())) > 1
    heading.get_by_role("link").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert column() == sorted(column(), reverse=True)
    page.get_by_label("Solved").select_option("at least once")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#goalposts tbody tr")).to_have_count(3)
    assert column() == sorted(column(), reverse=True)
    page.get_by_label("Words").fill("Add 1002")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#goalposts tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("#goalposts tbody tr")).to_have_count(4)


def test_everything_can_be_done_with_keys(page: Page) -> None:
    page.goto("/runs/recorded/goalposts")
    keys = page.keyboard
    keys.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_in_viewport()
    keys.press("Enter")
    expect(page.locator("main")).to_be_focused()
    rows = page.locator("#goalposts tbody tr > th a")
    for key, place in ("j", 0), ("j", 1), ("j", 2), ("k", 1):
        keys.press(key)
        expect(rows.nth(place)).to_be_focused()
    keys.press("/")
    expect(page.locator("#q")).to_be_focused()
    keys.type("gsj?")
    expect(page.locator("#q")).to_have_value("gsj?")
    keys.press("Escape")
    expect(page.locator("#q")).not_to_be_focused()
    keys.press("?")
    keys_shown = page.get_by_role("dialog", name="Keys")
    expect(keys_shown).to_be_visible()
    keys.press("g")
    keys.press("Escape")
    expect(keys_shown).to_be_hidden()
    for letter, heading in ("s", "Search"), ("p", "Policies"), ("x", "Suspicion"), ("e", "Events"), ("r", "Runs"):
        with page.expect_navigation():
            keys.type(f"g{letter}")
        expect(page.locator("h1")).to_have_text(heading)


def test_keys_open_rows_and_turn_pages_of_attempts(page: Page) -> None:
    page.goto("/runs/recorded/search?q=purpose:gap")
    for keys, heading in ("j Enter", "10 answers"), ("j Enter", "Attempt 0"), ("]", "Attempt 1"), ("[", "Attempt 0"):
        with page.expect_navigation():
            for key in keys.split():
                page.keyboard.press(key)
        expect(page.locator("h1")).to_contain_text(heading)


@pytest.mark.usefixtures("growing_run")
def test_without_javascript_everything_that_does_not_move_works(browser: Browser, monitor: BrowserMonitor) -> None:
    before = len(monitor.problems)
    with monitor.context(browser, java_script_enabled=False, viewport=PHONE) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_role("link", name="recorded").click()
        page.get_by_role("link", name="Goalposts").click()
        page.get_by_label("Solved").select_option("at least once")
        page.get_by_role("button", name="Filter").click()
        page.locator("#goalposts tbody a").first.click()
        expect(page.locator("#why")).to_contain_text("Solved")
        page.locator("summary", has_text="Reference program").click()
        expect(page.get_by_role("group", name="Reference program")).to_be_visible()
        page.locator("svg.tree a").first.click()
        page.go_back()
        page.locator("article .verdict").first.locator("xpath=preceding-sibling::a").last.click()
        page.locator("#answers tbody a").first.click()
        page.get_by_role("link", name="Next attempt").click()
        expect(page.locator("h1")).to_contain_text("Attempt 1")
        page.fill("#q", "kind:lemma accepted:yes")
        page.press("#q", "Enter")
        expect(page.locator(".hits li").first).to_be_visible()
        page.goto("/compare")
        page.get_by_label("recorded").check()
        page.get_by_label("growing").check()
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("columnheader", name="growing").first).to_be_visible()
    assert not monitor.problems[before:]
