"""The pages that show a curriculum say what was recorded, in HTML and in JSON, and hostile text stays text."""

import json
import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from events.facts.rollouts import pack_rollouts
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    GoalpostAdded,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
)
from events.facts.values import IOPair, Question, Verdict, canonical
from events.index.reader import Index
from events.stores import open_log
from events.web.app import make_app
from events.web.view.viewer import Viewer
from tests.support.example_runs import PROVENANCE, ExampleRun, example_run

HOSTILE = "</code></pre><script>alert('owned')</script>\x1b[2J\u202eevil\r\n\x00\" onload=x {{ 7*7 }} ']]>"
BIG = 500_000
LONG = 3_000


def hostile() -> Question:
    """A question in which everything that a model writes attacks the page."""
    pairs = tuple(IOPair(input=f"'{HOSTILE}{place}'", output=HOSTILE) for place in range(5))
    program = f"def f(x):\n    # {HOSTILE}\n    return '''{HOSTILE}'''"
    context = f"# {HOSTILE}\nimport math"
    return Question(statement=f"Say it. {HOSTILE}", program=program, public=pairs[:2], private=pairs[2:], context=context)


def attack(tale: ExampleRun) -> None:
    """An episode at a hostile goalpost, with a hostile lemma, hostile answers and hostile reasons."""
    goalpost, lemma = hostile(), hostile().model_copy(update={"statement": f"Easier. {HOSTILE}" + "x" * 60_000})
    log = tale.log
    log.append("goalposts", [GoalpostAdded(question=goalpost.id, blob=log.put(canonical(goalpost)), source=HOSTILE)])
    tale.open(goalpost, "guided")
    texts = log.put(json.dumps([f"```python\ndef f(x):\n    return {HOSTILE!r}\n```\n{HOSTILE}", HOSTILE]).encode())
    tokens = log.put(pack_rollouts([1], [range(LONG), [1]], [[-0.5] * LONG, [-0.5]]))
    generation = tale.generation(HOSTILE, 2).model_copy(update={"texts": texts, "tokens": tokens})
    fact = AttemptsMade(purpose="gap", question=goalpost.id, task="induction", generation=generation)
    made = log.append(tale.stream, [fact])[0]
    verdicts = tuple(Verdict(outcome="runtime_error", passed=0, total=5, detail=HOSTILE) for _ in range(2))
    log.append(tale.stream, [AttemptsVerified(of=made.version, verdicts=verdicts, provenance=PROVENANCE)])
    one = tale.generation(HOSTILE, 1, "teacher")
    one = one.model_copy(update={"texts": log.put(json.dumps([HOSTILE * 2_000]).encode())})
    log.append(tale.stream, [QuestionProposed(seat="easy", attempt=1, parent=goalpost.id, generation=one)])
    log.append(tale.stream, [QuestionRejected(seat="easy", reason="malformed", detail=HOSTILE)])
    log.append(tale.stream, [QuestionProposed(seat="easy", attempt=2, parent=goalpost.id, generation=one)])
    blob = log.put(canonical(lemma))
    log.append(tale.stream, [QuestionValidated(seat="easy", question=lemma.id, blob=blob, similarity=0.5, aligned=None)])
    log.append(tale.stream, [QuestionRejected(seat="easy", reason="too_hard", detail=HOSTILE, question=lemma.id, blob=blob)])


class Site:
    """A viewer of one recorded run, whose pages are asked for as a browser would."""

    def __init__(self, folder: Path) -> None:
        self.viewer = Viewer([str(folder)])
        self.run = self.viewer.runs()[0]
        self.browser = TestClient(make_app(self.viewer), base_url="http://localhost")
        index = self.run.index
        while self.run.position < self.run.head:
            time.sleep(0.01)
        self.index: Index = index

    def page(self, place: str, status: int = 200) -> str:
        answer = self.browser.get(f"/runs/{self.run.slug}{place}")
        assert answer.status_code == status, answer.text
        assert len(answer.content) < BIG
        return answer.text

    def json_address(self, place: str) -> Any:
        path, _, query = place.partition("?")
        return self.browser.get(f"/runs/{self.run.slug}{path}.json?{query}").json()

    def text(self, place: str) -> str:
        """What a reader of the page reads, on one line."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.page(place))).split())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("runs") / "little"
    folder.mkdir()
    log = open_log(folder / "log.sqlite", create=True)
    tale = example_run(log).run(name="little").goalpost(3).start(4)
    tale.episode(rejected=["not_novel", "too_easy"]).episode(lemma=None).episode(gap_successes=4).practice()
    tale.finish().update().start(4).episode(gap_successes=2, task="induction").episode().episode()
    attack(tale)
    tale.fail("engine " + HOSTILE).open(tale.goalposts[0], "guided")
    fact = QuestionProposed(seat="easy", attempt=1, parent=tale.goalposts[0].id, generation=tale.generation("?", 1, "teacher"))
    log.append(tale.stream, [fact])
    tale.finish().update().evaluate().end()
    log.close()
    made = Site(folder)
    yield made
    made.viewer.close()


def goalpost(site: Site, number: int) -> str:
    """The scene's goalposts are called after the number that is to be added."""
    return str(site.json_address(f"/goalposts?text={number}")["goalposts"][0]["question"])


def first(site: Site, origin: str) -> Any:
    """The first question of a kind that a search for it gives last."""
    return site.json_address(f"/search?q=kind:{origin}")["hits"][-1]["appearance"]


def test_goalposts_are_sorted_by_what_the_address_says_and_a_link_turns_that_round(site: Site) -> None:
    upwards = [
        row["last_gap"] for row in site.json_address("/goalposts?order=last_gap")["goalposts"] if row["last_gap"] is not None
    ]
    downwards = [row["last_gap"] for row in site.json_address("/goalposts?order=last_gap&descending=yes")["goalposts"]][
        : len(upwards)
    ]
    assert upwards == sorted(upwards)
    assert downwards == upwards[::-1]
    page = site.page("/goalposts?order=last_gap")
    assert 'aria-sort="ascending"' in page
    assert 'href="/runs/little/goalposts?order=last_gap&amp;descending=yes"' in page
    assert 'aria-sort="descending"' in site.page("/goalposts?order=last_gap&descending=yes")


def test_goalposts_are_filtered_by_words_source_and_success(site: Site) -> None:
    every = site.json_address("/goalposts")
    solved, unsolved = site.json_address("/goalposts?solved=yes"), site.json_address("/goalposts?solved=no")
    assert {row["solved_after"] is None for row in unsolved["goalposts"]} == {True}
    assert solved["count"] + unsolved["count"] == every["count"] == 4
    assert site.json_address("/goalposts?source=scene")["count"] == 3
    assert site.json_address("/goalposts?text=1001")["goalposts"][0]["title"] == "Add 1001 to every number."
    assert "No goalpost is like this" in site.text("/goalposts?text=nowhere")


def test_a_table_of_goalposts_has_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.web.pages.goalposts.ROWS", 2)
    pages = [site.json_address(f"/goalposts?order=title&page={number}") for number in (1, 2)]
    assert [len(page["goalposts"]) for page in pages] == [2, 2]
    assert len({row["question"] for page in pages for row in page["goalposts"]}) == 4
    assert 'rel="next" href="/runs/little/goalposts?order=title&amp;page=2"' in site.page("/goalposts?order=title")
    assert "cannot be ordered by &#39;beauty&#39;" in site.page("/goalposts?order=beauty", 400)


def test_a_goalpost_opens_with_why_it_was_solved(site: Site) -> None:
    for number, begins in ((1000, "Solved"), (1001, "N")):
        place = f"/goalposts/{goalpost(site, number)}"
        data = site.json_address(place)
        assert data["why"].startswith(begins)
        assert data["why"] in site.text(place)


def test_a_goalpost_leads_to_the_answer_to_look_at_first(site: Site) -> None:
    place = f"/goalposts/{goalpost(site, 1000)}"
    best = site.json_address(place)["best_answer"]
    there = f"/attempts/{best['stream']}/{best['version']}/{best['index']}"
    assert f'<a href="/runs/little{there}">the first answer that passed</a>' in site.page(place)
    assert site.json_address(there)["completion"]["verdict"]["outcome"] == "passed"


def test_a_curriculum_is_drawn_with_links_and_told_as_a_list(site: Site) -> None:
    place = f"/goalposts/{goalpost(site, 1000)}"
    page, data = site.page(place), site.json_address(place)
    nodes = [proposal for row in data["tree"] for proposal in row.get("proposals", ())]
    drawn = page[page.index('<svg class="tree" role="group"') :].partition("</svg>")[0]
    listed = page[page.index("The same as a list") :].partition("</details>")[0]
    assert drawn.count("<a href=") == listed.count("<a href=") == len(nodes) > 3
    assert (
        len(re.findall('aria-label="lemma proposal 3, axis (io|function): accepted, solved 5 of 10, reward 0.75"', drawn)) >= 1
    )
    assert "rejected as not novel" in drawn
    assert "rejected as not novel" in listed


def test_lemma_and_lift_stand_beside_what_they_vary(site: Site) -> None:
    data = site.json_address(f"/goalposts/{goalpost(site, 1000)}")
    latest = next(section for section in data["sections"] if section["lift"])
    old, new = data["question"]["statement"], latest["lemma"]["statement"]
    assert [(line["mark"], line["text"]) for line in latest["lemma"]["statement_changes"]] == [("-", old), ("+", new)]
    assert [(line["mark"], line["text"]) for line in latest["lift"]["statement_changes"]] == [
        ("-", new),
        ("+", latest["lift"]["statement"]),
    ]
    page = site.page(f"/goalposts/{goalpost(site, 1000)}")
    changed = re.search(r"\d+", new)
    assert changed is not None
    assert f'<span class="unseen">after: </span>Add <b>{changed[0]}</b> to every number.' in page
    assert latest["episode"]["learned"]


def test_older_episodes_are_a_page_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.web.pages.goalpost.DETAILED", 1)
    place = f"/goalposts/{goalpost(site, 1000)}"
    latest = site.json_address(place)
    older = site.json_address(f"{place}?before={latest['older']}")
    assert older["sections"][0]["episode"]["position"] < latest["sections"][0]["episode"]["position"]
    assert f"before={latest['older']}" in site.page(place)


def test_a_question_knows_its_parents_children_and_answers(site: Site) -> None:
    lemma = first(site, "lift")["parent"]
    data = site.json_address(f"/questions/{lemma}")
    assert [row["origin"] for row in data["parents"]] == ["goalpost"]
    assert [(row["origin"], row["parent"]) for row in data["children"]] == [("lift", lemma)]
    assert data["purposes"]["pass_rate"] == {"passed": 5, "wrong_answer": 5}
    assert data["question"]["program"] in unescape(re.sub("<[^>]*>", "", site.page(f"/questions/{lemma}")))
    assert site.json_address(f"/questions/{lemma[:10]}") == data


def test_answers_with_equal_texts_are_marked(site: Site) -> None:
    attacked = next(row for row in site.json_address("/goalposts")["goalposts"] if row["source"] != "scene")
    made = site.json_address(f"/questions/{attacked['question']}")["answers"][0]
    data = site.json_address(f"/answers/{made['stream']}/{made['version']}")
    assert [answer["same_as"] for answer in data["answers"]] == [None, None]
    assert [answer["verdict"]["outcome"] for answer in data["answers"]] == ["runtime_error"] * 2


def test_an_attempt_shows_its_tests_tokens_and_neighbours(site: Site) -> None:
    lemma = first(site, "lift")["parent"]
    made = next(row for row in site.json_address(f"/questions/{lemma}")["answers"] if row["purpose"] == "pass_rate")
    place = f"/attempts/{made['stream']}/{made['version']}/7"
    data, page = site.json_address(place), site.page(place)
    assert data["completion"]["verdict"]["outcome"] == "wrong_answer"
    assert page.count('<span class="token ') == len(data["completion"]["ids"]) + len(data["legend"])
    assert f'rel="prev" href="/runs/little/attempts/{made["stream"]}/{made["version"]}/6"' in page
    assert f'rel="next" href="/runs/little/attempts/{made["stream"]}/{made["version"]}/8"' in page
    assert f"logprob {data['completion']['logprobs'][0]:.3f}" in page


def test_a_wrong_program_stands_beside_the_reference(site: Site) -> None:
    attacked = next(row for row in site.json_address("/goalposts")["goalposts"] if row["source"] != "scene")
    made = site.json_address(f"/questions/{attacked['question']}")["answers"][0]
    place = f"/attempts/{made['stream']}/{made['version']}"
    data = site.json_address(f"{place}/0")
    assert [line["text"] for line in data["changes"] if line["mark"] == "+"] == data["completion"]["program"].splitlines()[1:]
    assert "Compared with the reference program" in site.text(f"{place}/0")
    assert "Compared with the reference program" not in site.page(f"{place}/1")


def test_tokens_are_coloured_by_the_advantage_if_asked(site: Site) -> None:
    solved = next(row for row in site.json_address("/search?q=purpose:pass_rate+reward>-1")["hits"])["answers"]
    place = f"/attempts/{solved['stream']}/{solved['version']}/0?colour=advantage"
    data, page = site.json_address(place), site.page(place)
    assert data["completion"]["advantage"] > 0.1
    assert page.count('<span class="token a4"') + page.count('<span class="token a5"') == len(data["completion"]["ids"]) + 2


def test_a_long_completion_has_pages(site: Site) -> None:
    attacked = next(row for row in site.json_address("/goalposts")["goalposts"] if row["source"] != "scene")
    made = site.json_address(f"/questions/{attacked['question']}")["answers"][0]
    place = f"/attempts/{made['stream']}/{made['version']}/0"
    pages: list[Any] = []
    while not pages or pages[-1]["until"] < LONG:
        pages.append(site.json_address(f"{place}?token={pages[-1]['until'] if pages else 0}"))
    assert [page["first"] for page in pages[1:]] == [page["until"] for page in pages[:-1]]
    assert len(pages) > 1
    assert f"token={pages[0]['until']}" in site.page(place)


def test_a_search_marks_what_it_found_and_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.web.pages.search.ROWS", 2)
    place = "/search?q=number+kind:goalpost"
    assert "<mark>number</mark>" in site.page(place)
    data = site.json_address(place)
    older = site.json_address(f"{place}&before={data['older']}")
    assert len(data["hits"]) == 2
    assert len(older["hits"]) == 1
    assert not {hit["position"] for hit in data["hits"]} & {hit["position"] for hit in older["hits"]}


def test_a_search_that_takes_long_says_how_far_it_came(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.web.pages.search.PATIENCE_S", 0.0)
    monkeypatch.setattr("events.index.reader._STRETCH_POSITIONS", 5)
    place = "/search?q=similarity>7"
    assert "Nothing found so far" in site.page(place)
    assert site.json_address(place)["partly"]
    assert "have been searched; this query needs time" in site.page(place)
    assert "Nothing found<" in site.page(f"{place}&before=3")


def test_a_query_that_cannot_be_read_keeps_its_page_and_says_why(site: Site) -> None:
    page = site.page("/search?q=colour:red")
    assert 'role="alert"' in page
    assert "asks for the field &#39;colour&#39;" in page
    assert 'value="colour:red"' in page


def test_every_field_of_the_language_is_explained_and_every_example_can_be_asked(site: Site) -> None:
    data = site.json_address("/search")
    assert all(field["meaning"] and field["values"] for field in data["fields"])
    assert [site.json_address(f"/search?q={example['query']}")["error"] for example in data["examples"]] == [""] * len(
        data["examples"]
    )


def test_signs_lead_to_their_evidence(site: Site) -> None:
    data = site.json_address("/suspicion")
    counts = {rule["name"]: rule["count"] for rule in data["rules"]}
    assert sum(counts.values()) == len(data["signs"]) + len(data["shifts"]) > 0
    page = site.page("/suspicion")
    for sign in data["signs"]:
        assert f'href="/runs/little/questions/{sign["question"]}"' in page
    rule = data["signs"][0]["rule"]
    assert {sign["rule"] for sign in site.json_address(f"/suspicion?rule={rule}")["signs"]} == {rule}
    assert "There is no rule" in site.page("/suspicion?rule=luck", 400)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("/goalposts/beef", "No goalpost of this run has the id"),
        ("/questions/beef", "No question of this run has the id"),
        ("/answers/episode/00009/000/2", "Nothing was answered at version 2"),
        ("/answers/run/2", "Nothing was answered at version 2"),
        ("/attempts/run/2/0", "Nothing was generated at version 2"),
        ("/attempts/run/two/0", "is no whole number"),
        ("/attempts/episode/00001/000/2/99", "There is no attempt 99"),
    ],
)
def test_what_is_missing_is_a_sentence(site: Site, place: str, sentence: str) -> None:
    assert sentence in unescape(site.page(place, 404))
    assert sentence in site.json_address(place)["error"]


def every_page(site: Site) -> Iterator[str]:
    attacked = next(row for row in site.json_address("/goalposts")["goalposts"] if row["source"] != "scene")
    yield from ("/goalposts", f"/goalposts/{attacked['question']}", f"/questions/{attacked['question']}", "/suspicion")
    yield from ("/search?q=alert", "/search?q=kind:lemma+reason:malformed")
    yield f"/search?q={HOSTILE.encode().hex()}%22%3Cscript%3E"
    for data in site.json_address(f"/goalposts/{attacked['question']}")["sections"]:
        for row in data["others"]:
            yield f"/attempts/{row['stream']}/{row['version']}/0"
            yield f"/answers/{row['stream']}/{row['version']}"
            if row["question"]:
                yield f"/questions/{row['question']}"
        for made in data["episode"]["answers"]:
            yield f"/answers/{made['stream']}/{made['version']}"
            yield f"/attempts/{made['stream']}/{made['version']}/0"
            yield f"/attempts/{made['stream']}/{made['version']}/1?colour=advantage"


def test_on_every_page_hostile_text_stays_text_and_live_parts_have_unique_ids(site: Site) -> None:
    places = list(every_page(site))
    assert len(places) >= 14
    for place in places:
        page = site.page(place)
        assert re.findall(r"<script(?! src=\"/static/)", page) == [], place
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\u2066-\u2069]", page), place
        assert not re.search(r"<[^>]*\s(style|on\w+)=", page), place
        assert "49" not in re.findall(r"onload=x (\S+)", unescape(page)), place
        names = re.findall(r'\sid="([^"]*)"', page)
        assert len(names) == len(set(names)), place


def test_a_hostile_program_is_coloured_and_complete(site: Site) -> None:
    attacked = next(row for row in site.json_address("/goalposts")["goalposts"] if row["source"] != "scene")
    page = site.page(f"/questions/{attacked['question']}")
    code = re.search(r'aria-label="Reference program"><code>(.*?)</code>', page, re.DOTALL)
    assert code is not None
    assert '<span class="k">def</span>' in code[1]
    assert "</code></pre><script>alert('owned')</script>" in unescape(re.sub("</?span[^>]*>", "", code[1]))


def test_an_episode_that_broke_off_says_on_what_and_one_that_goes_on_what_is_not_known(site: Site) -> None:
    place = f"/goalposts/{goalpost(site, 1000)}"
    going, failed, *_ = site.json_address(place)["sections"]
    assert going["episode"]["ending"] is None
    assert [row["accepted"] for row in going["others"]] == [None]
    assert failed["episode"]["failure"].startswith("SandboxError: engine ")
    assert failed["episode"]["learned"] == []
    assert "SandboxError: engine </code></pre><script>" in site.text(place)
    assert re.search('aria-label="lemma proposal 1, axis (io|function): not judged yet"', site.page(place))


def test_a_question_of_an_evaluation_is_known_by_its_prompt(site: Site) -> None:
    made = site.json_address("/search?q=purpose:evaluation")["hits"][0]["answers"]
    data = site.json_address(f"/questions/{made['question']}")
    assert data["question"] is None
    assert data["prompt"] == "Solve: Add 1 to every number."
    assert data["prompt"] in site.text(f"/questions/{made['question']}")
    assert data["purposes"] == {"evaluation": {"wrong_answer": 18, "passed": 2}}


def test_a_question_that_repeats_another_says_so(site: Site) -> None:
    sign = next(
        sign for sign in site.json_address("/suspicion?rule=near_duplicate")["signs"] if sign["other"] != sign["question"]
    )
    assert sign in site.json_address(f"/questions/{sign['question']}")["signs"]
    assert f'href="/runs/little/questions/{sign["other"]}"' in site.page(f"/questions/{sign['question']}")
