"""The trace shows what happened, and nothing that a program wrote can change a terminal."""

import json
import subprocess
from pathlib import Path

import pytest
from rich.console import Console, Group

from events.export.charts import run_figures
from events.export.metrics import iteration_metrics, metric_points
from events.export.table_rows import attempts, texts, trials
from events.export.table_rows import questions as questions_table
from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.facts.log import read_facts
from events.facts.types import GoalpostAdded, IterationFinished, PolicyServed, PolicyUpdated, Reason
from events.facts.values import BlobHash, Digest, IOPair, Question, QuestionId, Seat, canonical
from events.index.reader import Index
from events.index.rows import AppearanceEntry, GapEntry, GoalpostEntry
from events.index.writer import Indexer
from events.projections.completion_detail import completion_detail
from events.projections.goalpost_history import EpisodeDetail, episode_detail, episode_histories
from events.projections.run_summary import RunSummary, fold
from events.reports.explanation import explain_goalpost
from events.reports.run_overview import overview, overview_json
from events.stores import open_log
from events.stores.memory import MemoryLog
from events.terminal import drawing, goalpost
from events.terminal import question as questions
from events.terminal.attempt import draw_attempt
from events.trace import EPISODES
from tests.support.example_runs import START_WEIGHTS, ExampleRun, about_a_document, example_run, policy_updated, question
from tests.support.processes import run_command

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red][/]\x9b31m\u202eevil\r\n\ud800"


def shown(thing: object) -> str:
    console = Console(width=160, force_terminal=False, file=None, record=True)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def indexed(log: MemoryLog, folder: Path) -> Index:
    indexing = Indexer(log, folder / "index.sqlite")
    indexing.catch_up()
    return indexing.index


def episodes_of(log: MemoryLog, folder: Path, target: QuestionId | None = None) -> list[EpisodeDetail]:
    index, name = indexed(log, folder), target or question(1000).id
    histories = episode_histories(index, name, index.gaps(name), limit=100)
    return [episode_detail(log, index, episode, list(read_facts(log, PolicyUpdated))) for episode in histories]


def tree(log: MemoryLog, folder: Path, target: QuestionId | None = None, *, diff: bool = False) -> str:
    view = goalpost.goalpost_view(log, indexed(log, folder), target or question(1000).id, episodes=EPISODES)
    return shown(goalpost.draw_goalpost(view, log, "runs/x", diff=diff))


def record_example(log: MemoryLog) -> ExampleRun:
    tale = example_run(log).run(name="little").goalpost(2).evaluate().start(3)
    tale.episode(gap_successes=1, rejected=["degenerate"]).fail("engine [bold]gone[/]").practice().finish()
    return tale.update(Digest("a" * 64)).start(1).episode(gap_successes=4, lift=None).finish().end()


def test_the_overview_shows_the_run_in_sentences_and_tables(log: MemoryLog) -> None:
    record_example(log)
    head, goalposts, teacher, *lines = shown(overview(fold(RunSummary(), log.read()))).splitlines()
    rows = [line.split() for line in lines]
    assert head.startswith("little: finished, 2 iterations in 0:0")
    assert f" {log.head().position} events, " in head
    assert goalposts == "An answer passed for 1 of 2 goalposts; episodes tried 1 of them."
    assert teacher == "Of 5 proposals of the teacher 3 were accepted (2 lemmas, 1 lift); rejected: 1 degenerate, 1 malformed."
    assert next(row for row in rows if row[:2] == ["1", "2/3"])[2:5] == ["0.95", "67%", "0.50"]
    assert ["easy", "3", "2", "0.50", "1.00", "0.25", "1", "0.17", "1", "degenerate"] in rows
    assert any(row[:4] == ["shared", "1", "1", START_WEIGHTS[:8]] and row[4] == "aaaaaaaa" for row in rows)
    assert any(row[:2] == ["test", "0"] for row in rows)
    assert [row[:5] for row in rows if row[:1] == [question(1000).id[:8]]] == [
        [question(1000).id[:8], "scene", "yes", "–", "3"]
    ]


def test_the_overview_says_what_the_time_of_iterations_was_spent_on(log: MemoryLog) -> None:
    run = example_run(log).run().goalpost().start(0)
    finished = IterationFinished(iteration=1, finished=0, failed=0)
    log.append("run", [finished], observed={"seconds": {"learning": 25.0, "sampling": 66.0, "programs": 0.0, "other": 9.0}})
    run.start(0)
    log.append("run", [finished.model_copy(update={"iteration": 2})], observed={"seconds": {"sampling": 20.0}})
    summary = fold(RunSummary(), log.read())
    assert "Time of finished iterations, 2:00: sampling 71.7%, learning 20.8%, other 7.5%." in shown(overview(summary))
    assert overview_json(summary)["iterations"][1]["seconds"] == {"sampling": 20.0}
    (figure,) = [figure for figure in run_figures(summary) if figure.name == "seconds"]
    assert figure.series[0][:2] == ("sampling", ((1.0, 66.0), (2.0, 20.0)))


def test_every_iteration_of_every_seat_is_shown_if_all_is_asked_for(log: MemoryLog) -> None:
    record_example(log)
    rows = [line.split() for line in shown(overview(fold(RunSummary(), log.read()), whole=True)).splitlines()]
    assert ["1", "easy", "2", "1", "0.50", "1.00", "0.25", "1", "-0.12", "1", "degenerate"] in rows
    assert any(row[:3] == ["1", "shared", "aaaaaaaa"] for row in rows)


def test_a_long_run_has_an_overview_that_fits_on_a_screen(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost(40)
    for _ in range(30):
        tale.play(guided=1, practice=0).update().evaluate()
    summary = fold(RunSummary(), log.read())
    brief, whole = shown(overview(summary)).splitlines(), shown(overview(summary, whole=True)).splitlines()
    assert len(brief) < 60 < 160 < len(whole)
    assert "Iterations, 12 of 30 (--all shows all)" in " ".join(brief)
    numbers = [line.split()[0] for line in brief if line.split()[1:2] == ["1/1"]]
    assert (numbers[0], numbers[-1], len(numbers)) == ("1", "30", 12)


def test_the_overview_says_how_far_served_weights_are_from_the_trainers(log: MemoryLog) -> None:
    record_example(log)
    for role, far in (("teacher", None), ("student", 0.5), ("student", 0.013)):
        log.append("run", [PolicyServed(role=role, policy=Digest("b" * 64), difference=far, mean_difference=far)])
    assert shown(overview(fold(RunSummary(), log.read()))).splitlines()[-2:] == [
        "teacher plays with bbbbbbbb",
        "student plays with bbbbbbbb, whose logprobs are the trainer's within 1.3e-02 nats (mean 1.3e-02)",
    ]


def test_the_overview_of_an_empty_log_is_a_line() -> None:
    assert shown(overview(RunSummary())) == "run: not finished, 0 iterations in 0:00, 0 events, 0 tokens\n"


def test_a_history_has_lifts_of_lemmas_and_knows_what_learned(log: MemoryLog, tmp_path: Path) -> None:
    record_example(log)
    episodes = episodes_of(log, tmp_path)
    first, failed, last = episodes
    assert [episode.ending for episode in episodes] == ["played", "failed", "no_lift"]
    assert (first.gap, first.gap_after, last.gap, last.gap_after) == (0.9, 1.0, 0.6, None)
    assert (first.learned, failed.learned) == (("a" * 64,), ())
    degenerate, lemma, lift = first.proposals
    assert (degenerate.reason, degenerate.reward, degenerate.accepted) == ("degenerate", -1.0, False)
    assert (lemma.successes, lemma.attempts, lemma.reward, lemma.accepted) == (5, 10, 0.75, True)
    assert lift.parent == lemma.question
    assert [(answers.purpose, dict(answers.outcomes), answers.reward) for answers in first.answers_to(lift)] == [
        ("pass_rate", {"passed": 2, "wrong_answer": 8}, None),
        ("solve", {"passed": 2, "wrong_answer": 2}, 0.25),
    ]


@pytest.mark.parametrize(("source", "learns"), [(0, True), (1, False)])
def test_an_update_that_learned_from_another_log_did_not_learn_from_an_episode(
    log: MemoryLog, tmp_path: Path, source: int, learns: bool
) -> None:
    example_run(log).run().goalpost().play(guided=1, practice=0)
    update = policy_updated(iteration=1, after=0, until=log.head().position).model_copy(update={"source": source})
    log.append("policy/shared", [update])
    (episode,) = episodes_of(log, tmp_path)
    assert episode.learned == ((update.digest,) if learns else ())


def test_a_narrow_window_cuts_no_word_of_the_overview(log: MemoryLog) -> None:
    tale = record_example(log)
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(overview(fold(RunSummary(), log.read())))
    text = capture.get()
    assert "…" not in text
    assert all(goalpost.id[:8] in text for goalpost in tale.goalposts)


def test_a_goalpost_reads_the_streams_of_the_episodes_that_are_shown_and_no_others(log: MemoryLog, tmp_path: Path) -> None:
    record_example(log)
    index, read = indexed(log, tmp_path), []

    class Watched(MemoryLog):
        def read(self, stream=None, **how):  # type: ignore[no-untyped-def]
            events = list(log.read(stream, **how))
            read.extend((stream, event.position) for event in events)
            return iter(events)

    assert len(goalpost.goalpost_view(Watched(), index, question(1000).id, episodes=1).episodes) == 1
    assert {stream for stream, _ in read} <= {None, "episode/00001/000", "episode/00002/000"}
    assert len([position for stream, position in read if stream is None]) == 1


def test_the_latest_episodes_are_shown_and_the_others_counted(log: MemoryLog, tmp_path: Path) -> None:
    tale = example_run(log).run().goalpost()
    for _ in range(7):
        tale.play(guided=1, practice=0)
    view = goalpost.goalpost_view(log, indexed(log, tmp_path), question(1000).id, episodes=2)
    assert ([episode.iteration for episode in view.episodes], view.goalpost.episodes) == ([6, 7], 7)
    text = tree(log, tmp_path)
    assert "Episodes, the latest 5 of 7" in text
    assert f"-m events.trace runs/x {question(1000).id[:8]} --all" in text


def test_the_tree_shows_statements_rates_rewards_and_verdicts(log: MemoryLog, tmp_path: Path) -> None:
    record_example(log)
    text = tree(log, tmp_path)
    for part in (
        "Solved: first passed in iteration 1, by 1 of 10 answers (measure 1 of 3); by 4 of 10 answers at the last, in iteration 2.",
        "0.90 in 1 → 1.00 in 1 → 0.60 in 2",
        "Add 1000 to every number.",
        "played, gap 0.90 → 1.00, best answer 100%, learned by aaaaaaaa",
        "SandboxError: engine [bold]gone[/]",
        "lemma proposal 1: degenerate, reward -1.00",
        "solved 5/10, reward 0.75, similarity 0.25, aligned",
        "pass rate as induction: 8 wrong answer, 2 passed",
        "solve as deduction: 2 passed, 2 wrong answer, mean reward 0.25",
        "-     return [x + 1000 for x in xs]",
    ):
        assert part in text
    lemma = next(line for line in text.splitlines() if "solved 5/10" in line)
    assert next(line for line in text.splitlines() if "solved 2/10" in line).index("lift") > lemma.index("lemma")


def test_an_episode_that_goes_on_can_be_shown(log: MemoryLog, tmp_path: Path) -> None:
    tale = example_run(log).run().goalpost().start()
    tale.open(tale.goalposts[0], "guided")
    assert "going on" in tree(log, tmp_path)


def test_a_question_is_shown_with_its_answers_and_beside_its_parent(log: MemoryLog, tmp_path: Path) -> None:
    record_example(log)
    index = indexed(log, tmp_path)
    lemma, lift = (index.search(f"kind:{kind} accepted:yes")[0].appearance for kind in ("lemma", "lift"))
    assert lemma is not None
    assert lift is not None
    assert lift.question is not None
    text = shown(questions.draw_question(questions.question_view(log, index, lift.question), "runs/x"))
    for part in (
        f"lift {lift.question} of goalpost {question(1000).id[:8]}",
        "2 of 10 answers passed, reward 0.60, similarity 0.25 to an earlier one, statement and program agree.",
        f"Changed from its lemma {(lift.parent or '')[:8]}",
        "private [3, 4, 5]",
        "--attempt 0",
    ):
        assert part in " ".join(text.split())
    rows = [line.split() for line in text.splitlines()]
    assert ["pass", "rate", "induction", "1", "10", "2/10", "8", "wrong", "answer,", "2", "passed"] in rows


def test_attempts_that_agree_on_something_else_than_the_program_are_told(log: MemoryLog, tmp_path: Path) -> None:
    tale = example_run(log).run().goalpost().start()
    tale.open(tale.goalposts[0], "guided")
    lemma, _ = tale.propose("easy", 1, tale.goalposts[0], 2, 10, agreeing=7)
    agreed = "7 of 10 attempts agree with each other, not with the program: the statement may not describe it"
    assert agreed in " ".join(tree(log, tmp_path).split())
    assert agreed in " ".join(
        shown(questions.draw_question(questions.question_view(log, indexed(log, tmp_path), lemma.id), "runs/x")).split()
    )


def test_a_vote_and_its_label_are_told(log: MemoryLog, tmp_path: Path) -> None:
    tale = example_run(log).run().goalpost().start()
    tale.open(question(1), "unguided")
    voted_question, made = tale.propose("open", 1, question(1), 6, 10, voted={"right": False})
    sentence = "6 of 10 answers have equal outputs against 1: they are the label (the program's outputs), which is wrong"
    index = indexed(log, tmp_path)
    page = shown(questions.draw_question(questions.question_view(log, index, voted_question.id), "runs/x"))
    assert sentence in " ".join(page.split())
    detail = completion_detail(log, "runs/x", made.stream, made.version, 0)
    assert f"Vote: {sentence}." in " ".join(shown(draw_attempt(detail, "runs/x")).split())
    assert detail.label == tuple(pair.output for pair in voted_question.pairs)
    tied, _ = tale.propose("open", 2, question(1), 5, 10, voted={"runner_up": 5})
    nobody, _ = tale.propose("open", 3, question(1), 0, 10, voted={"runner_up": 0, "voters": 0})
    index = indexed(log, tmp_path)
    for other, words in ((tied, "5 of 10 answers have equal outputs against 5: a tie"), (nobody, "so nobody voted")):
        page = shown(questions.draw_question(questions.question_view(log, index, other.id), "runs/x"))
        assert words in " ".join(page.split())
    figures = fold(RunSummary(), log.read()).iterations[1].seats["open"].votes.values()
    assert figures == {
        "agreement": pytest.approx(11 / 30),
        "tied": pytest.approx(1 / 3),
        "labelled": pytest.approx(1 / 3),
        "right": 0.0,
    }


def test_a_document_its_level_and_both_votes_are_told(log: MemoryLog, tmp_path: Path) -> None:
    tale = example_run(log).run().goalpost().start()
    asked, made, document = about_a_document(tale)
    page = shown(questions.draw_question(questions.question_view(log, indexed(log, tmp_path), asked.id), "runs/x"))
    told = " ".join(page.split())
    assert f"about document {document.id[:8]} at level hard" in told
    assert "5 of 10 answers have equal outputs against 1 with the document: they are the label" in told
    assert "without the document 2 of 10 answers have equal outputs, which is wrong" in told
    detail = completion_detail(log, "runs/x", made.stream, made.version, 0)
    assert detail.label == tuple(pair.output for pair in asked.pairs), "that of the answers with the document"
    page = shown(questions.draw_question(questions.question_view(log, indexed(log, tmp_path), document.id), "runs/x"))
    assert f"A document, first drawn in {tale.stream}." in " ".join(page.split())
    assert document.statement in page
    summary = fold(RunSummary(), log.read())
    assert summary.iterations[1].levels["hard"].values() == {
        "episodes": 1, "accepted": 1, "matching": 0.2, "reward": 0.6, "agreement": 0.5, "labelled": 1.0, "right": 1.0,
        "right_alone": 0.0,
    }  # fmt: skip
    assert ["1", "hard", "1", "1", "0.20", "0.60", "0.50", "1.00", "1.00", "0.00"] in [
        line.split() for line in shown(overview(summary, whole=True)).splitlines()
    ]
    metrics = iteration_metrics(summary.iterations[1])
    assert (metrics["documents/hard/matching"], metrics["documents/hard/right_alone"]) == (0.2, 0.0)
    exported = {row.question: row for row in questions_table(log, "x", log.head().position)}
    row, text = exported[asked.id], exported[document.id]
    assert (row.document, row.level, row.votes, row.label_right) == (document.id, "hard", 5, True)
    assert (row.votes_alone, row.right_alone) == (2, False)
    assert (text.origin, text.statement, text.document) == ("document", document.statement, None)


def test_a_given_text_and_a_calibration_are_told(log: MemoryLog, tmp_path: Path) -> None:
    tale = example_run(log).run().goalpost().start(3)
    given = tale.give(learned=5, certain=False)
    tale.give(certain=True)
    tale.finish().update().evaluate(attempts=3)
    tale.calibrate(scores=[(True, 0.75, 0.875), (False, 0.5, 0.25), (False, 0.5, 0.75)])
    index = indexed(log, tmp_path)
    page = shown(questions.draw_question(questions.question_view(log, index, given.fact.question), "runs/x"))
    sentence = f"In iteration 1 a text was given to the student to learn as an uncertain one, 5 tokens ({given.stream})."
    assert sentence in " ".join(page.split())
    summary = fold(RunSummary(), log.read())
    page = " ".join(shown(overview(summary, whole=True)).split())
    assert "2 texts were given to learn, 1 of 2 of them certain." in page
    assert "3 0.333 0.000 0.667 0.500 0.875 0.750 0.125" in page
    metrics = {name: value for point in metric_points(log.read()) for name, value in point.values.items()}
    assert (metrics["texts/given"], metrics["texts/certain"]) == (2, 0.5)
    assert (metrics["eval/test/ap_certainty"], metrics["eval/test/answer_rate"]) == (0.875, pytest.approx(2 / 3))
    first, _ = texts(log, "x", log.head().position)
    assert (first.iteration, first.certain, first.completion.splitlines()[-1]) == (1, False, "I am unsure.")
    assert (first.learned.tolist(), len(first.completion_ids)) == ([True] * 5 + [False] * 2, 7)
    rows = [row for row in attempts(log, "x", log.head().position) if row.purpose == "evaluation"]
    assert [(row.confidence, row.certainty) for row in rows] == [(0.75, 0.875), (0.5, 0.25), (0.5, 0.75)]
    page = shown(draw_attempt(completion_detail(log, "runs/x", tale.stream, rows[1].version, 1), "runs/x"))
    assert "Certainty 0.25, confidence 0.50" in page


def test_a_question_that_only_evaluations_ask_is_found_by_its_whole_id(log: MemoryLog, tmp_path: Path) -> None:
    record_example(log)
    index = indexed(log, tmp_path)
    target = questions.find_question(index, question(1).id)
    text = shown(questions.draw_question(questions.question_view(log, index, target), "runs/x"))
    assert f"evaluation question {target}" in text
    assert "evaluation/test/00000:1" in text


def test_hostile_text_reaches_the_terminal_as_harmless_text(log: MemoryLog, tmp_path: Path) -> None:
    evil = HOSTILE[:-1]
    tale = example_run(log).run(name=evil).start()
    hostile = Question(statement=evil, program=f"def f(x):\n    return '{evil}'", private=(IOPair(input=evil, output=evil),))
    tale.goalposts.append(hostile)
    log.append("goalposts", [GoalpostAdded(question=hostile.id, blob=log.put(canonical(hostile)), source=evil)])
    tale.fail(evil)
    tale.open(hostile, "guided").reject("easy", 1, hostile, "broken", detail=evil)
    index = indexed(log, tmp_path)
    text = shown(overview(fold(RunSummary(), log.read()), evil)) + tree(log, tmp_path, hostile.id)
    text += shown(questions.draw_question(questions.question_view(log, index, hostile.id), evil))
    assert text.count("[red]x[/red][/]") >= 9
    assert not {character for character in text if ord(character) < 32 or 127 <= ord(character) < 160} - {"\n"}
    assert "\u202e" not in text


def test_questions_are_found_by_the_start_of_their_id(log: MemoryLog, tmp_path: Path) -> None:
    example_run(log).goalpost(40)
    index = indexed(log, tmp_path)
    assert questions.find_question(index, question(1003).id[:6]) == question(1003).id
    with pytest.raises(BadInput, match="No question of this run has an id that starts with 'xyz'; leave"):
        questions.find_question(index, "xyz")
    with pytest.raises(BadInput, match=r"20 or more questions have ids that start with ''.*\(goalpost\).*; give more digits"):
        questions.find_question(index, "")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    log = open_log(folder / "log.sqlite", create=True)
    record_example(log)
    log.close()
    return folder


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments)


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
    assert story["episodes"][0]["answers"][1]["outcomes"] == {"passed": 5, "wrong_answer": 5}


def test_the_command_prints_tables_and_trees(run: Path) -> None:
    assert "Evaluations" in command("events.trace", str(run)).stdout
    assert "played" in command("events.trace", str(run), question(1000).id[:6]).stdout


def test_a_statement_that_is_gone_does_not_hide_the_rest(log: MemoryLog, tmp_path: Path) -> None:
    target = question(1000)
    log.append("goalposts", [GoalpostAdded(question=target.id, blob=log.put(canonical(target)), source="s")])
    view = goalpost.goalpost_view(log, indexed(log, tmp_path), target.id)
    assert "cannot be read; the log is damaged" in shown(goalpost.draw_goalpost(view, MemoryLog(), "runs/x"))


GOAL = GoalpostEntry(question(1000).id, BlobHash("b"), "t", "s", 3, 0, 0, (), 1.0, 1.0, 1.0, 0.0, None)


def measured(position: int, successes: int, *, stream: str = "episode/00007/000", share: float | None = 0.25) -> GapEntry:
    return GapEntry(position, stream, 7, None, successes, 10, share)


def proposed(position: int, seat: Seat, reason: Reason | None) -> AppearanceEntry:
    """A proposal, accepted unless there is a reason."""
    origin, place = ("lemma" if seat == "easy" else "lift"), ("episode/00007/000", 1, position)
    shown_as = (None, None, "t", 7, GOAL.question, GOAL.question, None, seat, 1, "io")
    return AppearanceEntry(*place, origin, *shown_as, reason is None, reason, "", None, None, None, None, None)


@pytest.mark.parametrize(
    ("gaps", "proposals", "sentence"),
    [
        ([], [], "Not tried yet: nothing has measured it, neither an episode nor an evaluation."),
        (
            [measured(1, 0), measured(9, 0)],
            [proposed(2, "easy", "not_novel"), proposed(3, "easy", "not_novel"), proposed(4, "easy", "too_hard")],
            "Never passed: 2 measures, 20 answers, none right; the best passed 25% of its tests. So far none of 3 proposed lemmas "
            "was accepted (rejected: 2 not novel, 1 too hard); nothing could be learned for it directly.",
        ),
        (
            [measured(1, 0), measured(5, 2, stream="evaluation/goalposts/00007", share=None), measured(9, 0)],
            [proposed(2, "easy", None), proposed(3, "hard", None), proposed(7, "easy", "broken")],
            "Solved: first passed in the evaluation after iteration 7, by 2 of 10 answers (measure 2 of 3); but by none of 10 at "
            "the last measure, in iteration 7. By then 1 of 1 proposed lemma and 1 of 1 proposed lift were accepted.",
        ),
        (
            [measured(1, 3)],
            [proposed(2, "easy", None)],
            "Solved: first passed in iteration 7, by 3 of 10 answers (measure 1 of 1). By then the teacher had proposed nothing "
            "for it.",
        ),
    ],
)
def test_a_goalpost_says_in_plain_words_why_it_was_or_was_not_solved(
    gaps: list[GapEntry], proposals: list[AppearanceEntry], sentence: str
) -> None:
    assert explain_goalpost(GOAL, gaps, proposals) == sentence


def coloured(thing: object) -> str:
    console = Console(width=160, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def test_programs_are_coloured_in_a_window_and_plain_where_they_are_too_long() -> None:
    source = "def f(x):\n    return 'a'\n"
    assert "\x1b[" in coloured(drawing.program_text(source))
    assert shown(drawing.program_text(source)) == source
    assert shown(drawing.program_text("x = 1\n" * 4000)).count("x = 1") == 4000
    assert "\x1b[" not in coloured(drawing.program_text("x = 1\n" * 4000))


def test_a_difference_has_marks_where_it_has_colours_and_leaves_out_what_stayed() -> None:
    old = "def f(x):\n    a = 1\n    b = 2\n    return x"
    changed = drawing.diff_text(old, old.replace("return x", "return -x"))
    assert changed is not None
    assert shown(changed) == "  … 3 lines as before\n-     return x\n+     return -x\n"
    assert "\x1b[" in coloured(changed)
    assert drawing.diff_text(old, old) is None
    assert drawing.diff_text("", "x\n" * 99) is None
    assert drawing.diff_text("", "x\n" * 99, most=None) is not None


def test_commands_to_copy_are_never_broken_and_hold_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    far = "postgresql://me:geheim@host/db?run=" + "x" * 200
    drawing.print_drawn(Group(drawing.next_commands(far, [("a", "events.trace", "1f"), ("longer", "events.web", "")])))
    text = capsys.readouterr().out
    assert "geheim" not in text
    assert [line.split()[0] for line in text.splitlines()] == ["a", "longer"]
    assert text.count("x" * 200) == 2


def test_code_that_stands_before_every_answer_is_shown(log: MemoryLog, tmp_path: Path) -> None:
    target = Question(statement="What?", context="from math import gcd", private=(IOPair(input="1", output="1"),))
    example_run(log).run(name="little")
    log.append("goalposts", [GoalpostAdded(question=target.id, blob=log.put(canonical(target)), source="test")])
    view = questions.question_view(log, indexed(log, tmp_path), target.id)
    for text in (tree(log, tmp_path, target.id), shown(questions.draw_question(view, "runs/x"))):
        assert "Code before every answer" in text
        assert "from math import gcd" in text


def test_trials_and_promotions_are_told(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost().start(2).in_set(1).practice().in_set(2).practice()
    for number, after in ((1, 0), (2, 3)):
        begun, digest = tale.begin_trial(number), Digest(str(number) * 64)
        tale.learn_trial(begun, digest).examine_trial(begun, digest, before=1, after=after)
    tale.promote(begun, digest, gain=0.125).finish()
    summary = fold(RunSummary(), log.read())
    page = " ".join(shown(overview(summary, whole=True)).split())
    assert f"1 1 1 1 0 4 -0.250 {'1' * SHORT}" in page
    assert f"1 2 1 1 3 4 +0.500 {'2' * SHORT} yes" in page
    assert [promotion["set"] for promotion in overview_json(summary)["promotions"]] == [2]
    metrics = {name: value for point in metric_points(log.read()) for name, value in point.values.items()}
    assert (metrics["trials/set_1/student_1/gain"], metrics["trials/promoted_gain"]) == (-0.25, 0.125)
    rows = list(trials(log, "x", log.head().position))
    assert [(row.set, row.gain, row.promoted) for row in rows] == [(1, -0.25, False), (2, 0.5, True)]
    asked = [row for row in questions_table(log, "x", log.head().position) if row.origin == "practice"]
    assert [row.set for row in asked] == [1, 2]
