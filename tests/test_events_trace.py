"""The trace shows what happened, and nothing that a program wrote can change a terminal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from events.errors import BadInput
from events.overview import overview
from events.projections import RunSummary, fold
from events.stores import open_log
from events.stores.memory import MemoryLog
from events.story import find_goalpost, tell
from events.trace import tree
from events.types import GoalpostAdded, PolicyServed
from events.values import Digest, Pair, Question, canonical
from tests.scenes import Scene, question, scene

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red][/]\x9b31m\u202eevil\r\n\ud800"


def shown(thing: object) -> str:
    console = Console(width=160, force_terminal=False, file=None, record=True)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def told(log: MemoryLog) -> Scene:
    tale = scene(log).run(name="little").goalpost(2).evaluate().start(3)
    tale.episode(gap_successes=1, rejected=["degenerate"]).fail("engine [bold]gone[/]").practice().finish()
    return tale.update(Digest("a" * 64)).start(1).episode(gap_successes=4, lift=None).finish().end()


def test_the_overview_shows_the_run_in_tables() -> None:
    log = MemoryLog()
    told(log)
    text = shown(overview(fold(RunSummary(), log.read())))
    head, *lines = text.splitlines()
    rows = [line.split() for line in lines]
    assert head.startswith(f"little: finished, {log.head().position} events, 2 lemmas, 1 lifts")
    assert next(row for row in rows if row[:2] == ["1", "2/3"])[2:5] == ["1", "0.95", "0.50"]
    assert ["1", "easy", "2", "1", "0.50", "1.00", "0.25", "1", "-0.12", "1", "degenerate"] in rows
    assert any(row[:3] == ["1", "shared", "aaaaaaaa"] for row in rows)
    assert any(row[:2] == ["test", "0"] for row in rows)


def test_the_overview_says_how_far_served_weights_are_from_the_trainers() -> None:
    log = MemoryLog()
    told(log)
    for role, far in (("teacher", None), ("student", 0.5), ("student", 0.013)):
        log.append("run", [PolicyServed(role=role, policy=Digest("b" * 64), difference=far, mean_difference=far)])
    assert shown(overview(fold(RunSummary(), log.read()))).splitlines()[1:3] == [
        "teacher is served by bbbbbbbb",
        "student is served by bbbbbbbb, whose logprobs are the trainer's within 1.3e-02 nats (mean 1.3e-02)",
    ]


def test_the_overview_of_an_empty_log_is_a_line() -> None:
    assert shown(overview(RunSummary())) == "run: not finished, 0 events, 0 lemmas, 0 lifts, 0 tokens\n"


def test_a_story_hangs_lifts_under_lemmas_and_knows_what_learned() -> None:
    log = MemoryLog()
    told(log)
    story = tell(log, find_goalpost(log, question(1000).id))
    first, failed, last = story.episodes
    assert [episode.ending for episode in story.episodes] == ["played", "failed", "no_lift"]
    assert (first.gap, first.gap_after, last.gap, last.gap_after) == (0.9, 1.0, 0.6, None)
    assert (first.learned, failed.learned) == (["a" * 64], [])
    degenerate, lemma, lift = first.proposals
    assert (degenerate.rejected, degenerate.reward, degenerate.accepted) == ("degenerate", -1.0, False)
    assert (lemma.successes, lemma.attempts, lemma.reward, lemma.accepted) == (5, 10, 0.75, True)
    assert lift.parent == lemma.question
    assert [(answers.purpose, dict(answers.outcomes)) for answers in lift.answers] == [
        ("pass_rate", {"passed": 2, "wrong_answer": 8}),
        ("solve", {"passed": 2, "wrong_answer": 2}),
    ]
    assert lift.answers[1].rewards == (1.0, 1.0, -0.5, -0.5)


def test_the_tree_shows_statements_rates_rewards_and_verdicts() -> None:
    log = MemoryLog()
    told(log)
    text = shown(tree(tell(log, find_goalpost(log, question(1000).id)), log))
    for part in (
        "gap 0.90 → 0.60 in 3 measures",
        "Add 1000 to every number.",
        "played, gap 0.90 → 1.00, best share 1.00, learned by aaaaaaaa",
        "SandboxError: engine [bold]gone[/]",
        "lemma proposal 1: degenerate reward -1.00",
        "solved 5/10, reward 0.75, similarity 0.25, aligned",
        "pass rate as induction: 8 wrong answer, 2 passed",
        "solve as deduction: 2 passed, 2 wrong answer, mean reward 0.25",
    ):
        assert part in text
    lemma = next(line for line in text.splitlines() if "solved 5/10" in line)
    lift = next(line for line in text.splitlines() if "solved 2/10" in line)
    assert lift.index("lift") > lemma.index("lemma")


def test_an_episode_that_goes_on_can_be_shown() -> None:
    log = MemoryLog()
    tale = scene(log).run().goalpost().start()
    tale.open(tale.goalposts[0], "guided")
    assert "going on" in shown(tree(tell(log, find_goalpost(log, "")), log))


def test_hostile_text_reaches_the_terminal_as_harmless_text() -> None:
    log = MemoryLog()
    tale = scene(log).run(name=HOSTILE[:-1]).start()
    asked = Question(statement=HOSTILE[:-1], private=(Pair(input="1", output="1"),))
    tale.goalposts.append(asked)
    log.append("goalposts", [GoalpostAdded(question=asked.id, blob=log.put(canonical(asked)), source=HOSTILE[:-1])])
    tale.fail(HOSTILE[:-1])
    tale.open(asked, "guided").reject("easy", 1, asked, "broken", detail=HOSTILE[:-1])
    text = shown(overview(fold(RunSummary(), log.read()))) + shown(tree(tell(log, find_goalpost(log, "")), log))
    assert text.count("[red]x[/red][/]") >= 4
    assert not {character for character in text if ord(character) < 32 or 127 <= ord(character) < 160} - {"\n"}
    assert "\u202e" not in text


def test_goalposts_are_found_by_the_start_of_their_id() -> None:
    log = MemoryLog()
    scene(log).goalpost(40)
    assert find_goalpost(log, question(1003).id[:6]).question == question(1003).id
    with pytest.raises(BadInput, match="no goalpost of this run has an id that starts with 'xyz'; leave"):
        find_goalpost(log, "xyz")
    with pytest.raises(BadInput, match=r"40 goalposts have ids that start with ''.*; give more"):
        find_goalpost(log, "")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    log = open_log(folder / "log.sqlite", create=True)
    told(log)
    log.close()
    return folder


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)


def test_the_command_prints_json_of_a_run_and_of_a_goalpost(run: Path) -> None:
    whole = json.loads(command("events.trace", str(run), "--json").stdout)
    assert (whole["finished"], whole["lemmas"], whole["iterations"][0]["seats"]["easy"]["rejected"]) == (
        True,
        2,
        {"degenerate": 1},
    )
    goalpost = next(iter(whole["goalposts"]))
    story = json.loads(command("events.trace", str(run / "log.sqlite"), goalpost[:6], "--json").stdout)
    assert story["question"] == goalpost
    assert story["episodes"][0]["proposals"][1]["answers"][0]["outcomes"] == {"passed": 5, "wrong_answer": 5}


def test_the_command_prints_tables_and_trees(run: Path) -> None:
    assert "Examinations" in command("events.trace", str(run)).stdout
    assert "played" in command("events.trace", str(run), question(1000).id[:6]).stdout


def test_a_statement_that_is_gone_does_not_hide_the_rest() -> None:
    log = MemoryLog()
    log.append("goalposts", [GoalpostAdded(question="q", blob="f" * 64, source="s")])
    assert "cannot be read; run verify" in shown(tree(tell(log, find_goalpost(log, "q")), log))
