"""Searches: what the language means, what it refuses, and that nothing in a query is anything but text."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from events.__main__ import app
from events.facts.errors import BadInput, GaspError
from events.facts.types import AttemptsMade, AttemptsVerified
from events.facts.values import Verdict
from events.index.location import open_index
from events.index.query import FIELDS, KINDS, QueryTerm, parse_query, select_rows
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry, SearchHit
from events.index.writer import Indexer
from events.stores import open_log
from events.stores.memory import MemoryLog
from tests.support.example_runs import PROVENANCE, ExampleRun, example_run, question

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red][/]\x9b31m\u202eevil\r\n[bold"
TEXTS = ("def solve(x):\n    return first_half(x)", f"Straße {HOSTILE} unbounded")


def answered(story: ExampleRun) -> None:
    """Answers whose texts are known: one too slow, one no program."""
    target = question(1)
    story.open(target, "guided")
    made = story.generation("Solve", 2)
    made = made.model_copy(update={"texts": story.log.put(json.dumps(TEXTS).encode())})
    fact = AttemptsMade(purpose="gap", question=target.id, task="induction", generation=made)
    version = story.log.append(story.stream, [fact])[0].version
    verdicts = (Verdict(outcome="time_limit", passed=0, total=3), Verdict(outcome="malformed", passed=0, total=3))
    story.log.append(story.stream, [AttemptsVerified(of=version, verdicts=verdicts, provenance=PROVENANCE)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with closing(open_log(folder / "log.sqlite", create=True)) as log:
        story = example_run(log).run().goalpost(2).start(4)
        story.episode(rejected=("malformed", "not_novel")).episode(lemma=8, similarity=0.9, aligned=False, task="induction")
        story.practice()
        answered(story)
        story.finish().update().evaluate()
    return folder


@pytest.fixture(scope="module")
def index(run: Path) -> Iterator[Index]:
    with closing(open_log(run / "log.sqlite")) as log, open_index(log, str(run)) as opened:
        yield opened


QUESTIONS: dict[str, Callable[[AppearanceEntry], bool]] = {
    "kind:lemma": lambda entry: entry.origin == "lemma",
    "kind:goalpost": lambda entry: entry.origin == "goalpost",
    "seat:hard": lambda entry: entry.seat == "hard",
    "reason:not_novel": lambda entry: entry.reason == "not_novel",
    "source:scene": lambda entry: entry.source == "scene",
    "accepted:yes": lambda entry: entry.accepted is True,
    "accepted:no": lambda entry: entry.accepted is False,
    "-accepted:yes": lambda entry: entry.accepted is not True,
    "aligned:no": lambda entry: entry.aligned is False,
    "similarity>0.5": lambda entry: (entry.similarity or 0) > 0.5,
    "seat:easy passrate=0.8": lambda entry: entry.seat == "easy" and entry.successes == 8,
    "kind:lift reward>=0.6": lambda entry: entry.origin == "lift" and (entry.reward or 0) >= 0.6,
    "accepted:yes -similarity<=0.5": lambda entry: entry.accepted is True and not (entry.similarity or 0) <= 0.5,
}
ANSWERS: dict[str, Callable[[AttemptsEntry], bool]] = {
    "kind:answers": lambda entry: True,
    "verdict:timeout kind:answers": lambda entry: "time_limit" in entry.outcomes,
    "verdict:malformed verdict:time_limit kind:answers": lambda entry: {"malformed", "time_limit"} <= set(entry.outcomes),
    "task:deduction": lambda entry: entry.task == "deduction",
    "purpose:pass_rate": lambda entry: entry.purpose == "pass_rate",
    "tokens>50": lambda entry: entry.tokens > 50,
    "-tokens>50": lambda entry: entry.tokens <= 50,
    "kind:answers passrate<0.3": lambda entry: entry.outcomes.get("passed", 0) / entry.count < 0.3,
    "kind:answers reward>0": lambda entry: (entry.reward or 0) > 0,
    "kind:answers iteration=1 -purpose:practice": lambda entry: entry.iteration == 1 and entry.purpose != "practice",
    "kind:answers -verdict:passed": lambda entry: "passed" not in entry.outcomes,
}


@pytest.mark.parametrize("query", QUESTIONS)
def test_a_field_finds_the_questions_that_it_fits(index: Index, query: str) -> None:
    appearances = [hit.appearance for hit in index.search(query, limit=1000)]
    every = [hit.appearance for hit in index.search("", limit=1000) if hit.appearance]
    assert appearances == [entry for entry in every if QUESTIONS[query](entry)]
    assert 0 < len(appearances) < len(every)


@pytest.mark.parametrize("query", ANSWERS)
def test_a_field_finds_the_answers_that_it_fits(index: Index, query: str) -> None:
    answers = [hit.answers for hit in index.search(query, limit=1000)]
    assert answers == [entry for entry in index.answers(limit=1000) if ANSWERS[query](entry)]
    assert answers


def test_what_lacks_a_field_is_not_found_by_it_not_even_negated(index: Index) -> None:
    for query, kind in (("-task:deduction", "answers"), ("-seat:easy", "question"), ("-similarity>2", "question")):
        hits = index.search(query, limit=1000)
        assert hits
        assert {hit.kind for hit in hits} == {kind}
    assert index.search("task:induction seat:easy") == []


def test_a_verdict_finds_the_questions_that_have_one_among_their_answers(index: Index) -> None:
    passed = {hit.answers.question for hit in index.search("kind:answers verdict:passed", limit=1000)}
    appearances = [hit.appearance for hit in index.search("verdict:passed", limit=1000) if hit.appearance]
    every = [hit.appearance for hit in index.search("", limit=1000) if hit.appearance]
    assert appearances == [entry for entry in every if entry.question in passed]
    assert appearances


def test_the_beginning_of_an_id_is_enough(index: Index) -> None:
    lift = index.search("kind:lift accepted:yes")[0].appearance
    for field, value in (("question", lift.question), ("goalpost", lift.goalpost)):
        for query in (f"{field}:{value}", f"{field}:{value[:7].upper()}"):
            hits = index.search(query, limit=1000)
            assert {getattr(hit.appearance or hit.answers, field, value) for hit in hits} == {value}
            assert {hit.kind for hit in hits} == {"question", "answers"}
    policy = index.answers()[0].policy
    assert {hit.answers.policy for hit in index.search(f"policy:{policy[:5]}", limit=1000)} == {policy}
    assert index.search("policy:%") == index.search("question:_") == []


def test_words_are_found_in_statements_programs_and_completions(index: Index) -> None:
    assert {hit.appearance.title for hit in index.search("1000 number")} == {"Add 1000 to every number."}
    assert [hit.appearance.origin for hit in index.search("xs 1001")] == ["goalpost"]
    solved = index.search("solve")
    assert [hit.kind for hit in solved] == ["answers"]
    assert "def solve(x)" in solved[0].excerpt
    for query in ("first_half", "FIRST half", '"return first_half"', "unbound*", "strasse*", "solve -nobody"):
        assert [hit.position for hit in index.search(query.replace("strasse", "straße"))] == [solved[0].position]
    for query in ("unbound", '"half first"', "solve -first_half", "solve -unb*"):
        assert index.search(query) == []


def test_words_that_must_not_be_there_leave_all_others(index: Index) -> None:
    every = index.search("kind:answers", limit=1000)
    without = index.search("kind:answers -solve", limit=1000)
    assert len(without) == len(every) - 1
    assert [hit.position for hit in without] == [
        hit.position for hit in every if hit.position != index.search("solve")[0].position
    ]


@pytest.mark.parametrize("query", ["", "add", "kind:answers", "verdict:passed", "-add", "verdict:passed kind:answers"])
def test_pages_follow_one_another_without_a_gap(index: Index, query: str) -> None:
    whole = index.search(query, limit=1000)
    assert [hit.position for hit in whole] == sorted((hit.position for hit in whole), reverse=True)
    paged: list[SearchHit] = []
    while page := index.search(query, limit=7, before=paged[-1].position if paged else None):
        assert len(page) <= 7
        paged += page
    assert paged == whole


@pytest.mark.parametrize("query", ["", "add", "tokens>0", "-add", "verdict:passed", "add -verdict:passed", "tokens>10000"])
def test_a_search_that_has_no_time_goes_on_where_it_ended(index: Index, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.index.reader._STRETCH_POSITIONS", 5)
    all_hits: list[SearchHit] = []
    searches, before = 0, None
    while before is None or before > 1:
        hits, end = index.search_for(0.0, query, limit=3, before=before)
        assert before is None or end < before
        all_hits += hits
        before, searches = end, searches + 1
    assert all_hits == index.search(query, limit=1000)
    assert searches > 5


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("", []),
        ("  a  b ", [QueryTerm("a"), QueryTerm("b")]),
        ('"for x in" -y', [QueryTerm("for x in"), QueryTerm("y", negated=True)]),
        ('pre* "two pre"*', [QueryTerm("pre*", prefix=True), QueryTerm("two pre", prefix=True)]),
        ("passrate<=.5", [QueryTerm(".5", "passrate", "<=")]),
        ("-Verdict:TIMEOUT", [QueryTerm("time_limit", "verdict", ":", negated=True)]),
        ('source:"my set" x', [QueryTerm("my set", "source", ":"), QueryTerm("x")]),
        ("a[1:2] 3:4", [QueryTerm("a[1:2]"), QueryTerm("3:4")]),
    ],
)
def test_a_query_is_a_row_of_terms(query: str, terms: list[QueryTerm]) -> None:
    assert parse_query(query) == terms


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("colour:red", "the field 'colour', and the fields are kind, verdict, .*; take one of them, or put"),
        ("x=1", "the field 'x', and the fields are .*passrate.* in quotes"),
        ("verdict:fine", "verdict 'fine', and there is no such; take one of passed, wrong_answer, "),
        ("kind:event", "kind 'event', .* goalpost, lemma, lift, open, practice, document, answers"),
        ("accepted:perhaps", "take one of yes, no"),
        ("passrate<few", "compares passrate with 'few', which is no number; write for instance passrate<0.5"),
        ("passrate:nan", "compares passrate with 'nan', which is no number; write"),
        ("axis>io", "compares axis by >, which only numbers can be: passrate, .*; write axis:VALUE"),
        ("source:", "source without a value; write source:VALUE"),
        ('a "b', "has a phrase that does not end; put another quotation mark"),
        ("a ++", r"searches for '\+\+', in which there is no letter or digit; give a word, .* kind, verdict"),
    ],
)
def test_a_query_that_cannot_be_read_says_what_could_be(query: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_query(query)


words = st.sampled_from(
    [*FIELDS, ":", "<", "<=", "=", '"', "-", "*", " ", "yes", "0.5", "lemma", "passed", "NEAR(", "OR", "\0", "\ud800"]
)
queries = st.one_of(st.text(), st.lists(words, max_size=8).map("".join))


@given(queries)
def test_every_text_is_a_query_or_one_sentence(query: str) -> None:
    try:
        terms = parse_query(query)
    except BadInput:
        return
    for kind in KINDS:
        statement = select_rows(terms, kind, before=9, limit=1)
        assert statement is None or statement.sql.count("?") == len(statement.values)


@settings(max_examples=300, deadline=None)
@given(queries)
def test_no_query_is_more_than_a_question(index: Index, query: str) -> None:
    try:
        hits = index.search(query, limit=3)
    except BadInput:
        return
    assert len(hits) <= 3


@pytest.mark.parametrize(
    ("query", "finds"),
    [
        ("solve OR nothing", False), ("solve NOT half", False), ("solve AND half", False),
        ("NEAR(solve half)", False), ("{text} solve", False), ("^solve", True), ("(solve) 'half'", True),
        ("solve*; half--", True),
    ],
)  # fmt: skip
def test_the_text_indexs_own_language_is_only_text(index: Index, query: str, finds: bool) -> None:
    assert bool(index.search(query)) == finds


def search(*words: object, code: int = 0) -> Result:
    ended = CliRunner().invoke(app, ["search", *map(str, words)])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code == code
    return ended


def test_the_command_prints_a_line_a_hit_with_what_and_where(run: Path, index: Index) -> None:
    lines = search(run, "kind:lemma accepted:yes axis:io", "similarity>=0", "--limit", 100).stdout.splitlines()
    hits = index.search("kind:lemma accepted:yes axis:io similarity>=0", limit=100)
    answers = search(run, "verdict:timeout").stdout
    assert len(lines) == len(hits)
    for line, hit in zip(lines, hits, strict=True):
        appearance = hit.appearance
        parts = (
            str(appearance.position),
            "lemma",
            appearance.question,
            f"{appearance.stream} {appearance.version}",
            "io",
            f"{appearance.successes}/10",
            "accepted",
        )
        assert all(part in line for part in parts)
    assert all(part in answers for part in ("answers", "passed 0/2, 1 time_limit, 1 malformed", "gap induction"))


def test_the_command_takes_terms_that_begin_with_a_minus_and_says_how_to_go_on(run: Path, index: Index) -> None:
    ended = search(run, "kind:answers", "-verdict:passed", "--limit", 1)
    first = index.search("kind:answers -verdict:passed")[0]
    assert ended.stderr.strip() == f"there may be more: --before {first.position}"
    assert str(first.position) in ended.stdout


def test_the_command_prints_json(run: Path, index: Index) -> None:
    hits = [json.loads(line) for line in search(run, "solve", "--json").stdout.splitlines()]
    hit = index.search("solve")[0]
    assert [(entry["kind"], entry["position"], entry["answers"]["question"]) for entry in hits] == [
        ("answers", hit.position, hit.answers.question)
    ]


def test_no_hits_are_no_error(run: Path) -> None:
    ended = search(run, "nowhere")
    assert (ended.stdout, ended.stderr) == ("", "no hits\n")


def test_a_query_that_cannot_be_read_is_an_error_of_ours(run: Path) -> None:
    with pytest.raises(GaspError, match="the fields are kind"):
        search(run, "colour:red")


def test_hostile_text_changes_no_terminal(run: Path) -> None:
    shown = search(run, "unbounded").stdout + search(run, "unbounded", "--json").stdout
    assert "unbounded" in shown
    assert not set(shown) & set("\x1b\x9b\u202e\r\x07")
    assert "[red]" in shown


def test_a_search_sees_what_was_appended_since(tmp_path: Path) -> None:
    log = MemoryLog()
    story = example_run(log).run().goalpost().start(1)
    with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing:
        indexing.catch_up()
        assert indexing.index.search("first_half") == []
        answered(story)
        indexing.catch_up()
        assert [hit.position for hit in indexing.index.search("first_half")] == [log.head().position - 1]
