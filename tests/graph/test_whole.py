"""Whole small runs with the shipped model, the real sandbox, the real trainer, and logs in both stores."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import closing
from pathlib import Path

import pytest

from events.cli.app import open_run
from events.export import frames
from events.facts.log import find_run_started
from events.facts.types import AttemptsMade, AttemptsVerified, GapMeasured, PolicyServed, PolicyUpdated, QuestionProposed
from events.projections.run_summary import RunSummary, fold
from events.stores import open_log
from graph.estimate.token_estimate import tokens_of_iteration
from graph.settings.config import Config
from graph.settings.configure import configure
from roles.pocket import WEIGHTS
from roles.serving.processes import descendants
from tests.support.benchmark_data import record_file
from tests.support.processes import PATIENCE_S, all_end, finish, run_command, start_command, start_run, wait_until
from tests.support.training_samples import sample_digest
from trainer.data import replay
from trainer.data.replay import Cursor

pytestmark = [pytest.mark.docker, pytest.mark.slow]

FEW = (
    "play.practice_attempts=4", "play.attempts=4", "play.gap_attempts=4", "play.max_attempts=2",
    "evaluate.questions=3", "evaluate.attempts=2",
)  # fmt: skip
SMALL = ("play.iterations=2", "play.episodes=4", "play.practice=4", *FEW)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    # By `python -m` itself, its trainer too; nearly all other runs are forked.
    out = finish(start_run(runs, "--name", "whole", settings=SMALL, fresh=True))
    log = open_log(runs / "whole" / "log.sqlite")
    yield log, out
    log.close()


def test_an_iteration_asks_for_what_its_settings_say(whole):
    log, _ = whole
    config = configure(None, list(SMALL))
    most, usual = tokens_of_iteration(config, most=True), tokens_of_iteration(config)
    for number in (1, 2):
        facts = [
            event.fact
            for event in log.read(kinds={"attempts_made", "question_proposed"})
            if f"episode/{number:05}/" in event.stream
        ]
        proposals = sum(isinstance(fact, QuestionProposed) for fact in facts)
        answers = sum(fact.generation.count for fact in facts if isinstance(fact, AttemptsMade))
        assert usual.proposals / 4 < proposals <= most.proposals
        assert usual.answers / 4 < answers <= most.answers
        assert sum(fact.generation.length for fact in facts) <= most.tokens


def test_a_run_ends_with_its_table_and_where_to_look(whole):
    _, out = whole
    for words in ("gap", "pass@1", "held-out", "-m events.trace", "-m events verify"):
        assert words in out


def test_every_iteration_was_learned_and_its_weights_served(whole):
    log, _ = whole
    events = list(log.read())
    updates = [event for event in events if isinstance(event.fact, PolicyUpdated)]
    assert [event.fact.iteration for event in updates] == [1, 2]
    assert all(step.samples for event in updates for step in event.fact.steps if step.groups > step.silent_groups)
    served = [event.fact.policy for event in events if isinstance(event.fact, PolicyServed) and event.fact.role == "student"]
    assert served[1:] == [event.fact.digest for event in updates]


def test_every_rollout_names_the_policy_that_sampled_it(whole):
    log, _ = whole
    serving = None
    for event in log.read():
        if isinstance(event.fact, PolicyServed) and event.fact.role == "student":
            serving = event.fact.policy
        if isinstance(event.fact, AttemptsMade):
            assert event.fact.generation.policy == serving


def test_operations_are_logged_beside_the_events_as_json(whole, tmp_path):
    log, _ = whole
    lines = [json.loads(line) for line in (log.path.parent / "run.log").read_text().splitlines()]
    assert [line["iteration"] for line in lines if line["event"] == "iteration_finished"] == [1, 2]
    logged = {line["event"] for line in lines}
    assert logged >= {"run_started", "trainer_started", "policy_learned", "weights_served", "evaluated", "run_ended"}


def test_the_seconds_of_an_iteration_are_divided_among_what_it_does(whole):
    log, _ = whole
    first, second = [event.observed["seconds"] for event in log.read(kinds=("iteration_finished",))]
    assert min(first["sampling"], first["programs"], first["evaluation"], second["sampling"], second["learning"]) > 0


def test_what_every_update_consumed_can_be_taken_out_and_proved(whole):
    log, _ = whole
    attempts, updates = frames.attempts(log), frames.updates(log)
    assert updates.height == 2
    for update in updates.iter_rows(named=True):
        assert sample_digest(attempts, update["after"], update["until"]) == update["sample_digest"]


def test_a_live_run_retrained_offline_gives_its_own_weights(whole, tmp_path):
    log, _ = whole
    start = ("trainer.run", tmp_path / "new", "--offline", log.path.parent, "--verify")
    assert start_command(*start, fresh=False).wait(PATIENCE_S) == 0
    with closing(open_run(str(tmp_path / "new"))) as other:
        again, live = frames.updates(other), frames.updates(log)
    assert again["digest"].to_list() == live["digest"].to_list()
    assert again["sample_digest"].to_list() == live["sample_digest"].to_list()


def test_rewards_given_anew_by_the_recipe_that_played_are_the_recorded_ones(whole):
    log, _ = whole
    start = find_run_started(log)
    place = Cursor("shared", start.policies["student"], until=0, step=0, version=0)
    for event in log.read(kinds=("policy_updated",)):
        end = replay.next_finished_iteration(log, place.until)
        assert replay.iteration_rollouts(log, place, end, Config(**start.config).algorithm()).digest == event.fact.samples
        place = place.advanced(event)


def test_the_log_of_a_run_verifies(whole):
    assert whole[0].verify() is None


def test_the_same_seed_gives_the_same_head_in_postgresql_and_no_password_is_told(whole, guarded_postgres, tmp_path):
    finish(start_run(tmp_path, "--name", "base", "--log", guarded_postgres, settings=SMALL))
    folder, password = tmp_path / "base", os.environ["PGPASSWORD"]
    with closing(open_run(str(folder))) as log:
        assert log.head() == whole[0].head()
        assert not any(password in str(event) for event in log.read())
    assert (folder / "log.url").read_text() == f"{guarded_postgres}?run=base\n"
    assert not (folder / "log.sqlite").exists()
    for path in folder.rglob("*"):
        assert not path.is_file() or password.encode() not in path.read_bytes(), path
    for log_file in ("run.log", "trainer.log"):
        lines = [json.loads(line) for line in (folder / log_file).read_text().splitlines()]
        assert {line["run"] for line in lines} == {"base"}
    for command in (["events.trace", folder], ["events.trace", f"{guarded_postgres}?run=base"], ["events", "list", tmp_path]):
        shown = run_command(*command)
        assert (shown.returncode, bool(shown.stdout)) == (0, True), shown.stderr


def test_real_livecodebench_records_are_played_honestly(tmp_path):
    goalposts = f"goalposts=livecodebench:{record_file('lcb/full_records.jsonl')}"
    # The pocket model was made for shorter prompts, but knows no last position.
    weights = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    few = ("play.iterations=1", "play.episodes=3", "play.practice=2", *FEW)
    reading = (f"model={weights}", "max_prompt_tokens=2000")
    finish(start_run(tmp_path, "--name", "lcb", settings=(*few, *reading, goalposts)))
    log = open_log(tmp_path / "lcb" / "log.sqlite")
    gaps = [event.fact.gap for event in log.read(kinds={"gap_measured"}) if isinstance(event.fact, GapMeasured)]
    assert gaps == [1.0] * 3
    verdicts = [
        verdict
        for event in log.read("evaluation/goalposts/00000")
        if isinstance(event.fact, AttemptsVerified)
        for verdict in event.fact.verdicts
    ]
    assert len(verdicts) == 3 * 2
    assert not any(verdict.outcome == "passed" for verdict in verdicts)
    assert not list(log.read(kinds={"episode_failed"}))
    log.close()


def test_a_run_in_postgresql_goes_on_after_sigterm_ctrl_c_and_kill_9_and_policies_learn_separately(guarded_postgres, tmp_path):
    folder, hint = tmp_path / "x", f"--resume {tmp_path / 'x'}"
    settings = ("policies=separate", "play.iterations=1", "play.episodes=4", "play.practice=3", *FEW)
    process = start_run(tmp_path, "--name", "x", "--log", guarded_postgres, settings=settings)
    # First while models load, where no answer is there yet, then in the middle of play.
    wait_until((folder / "trainer.out").exists, process)
    with closing(open_run(str(folder))) as log:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            started = descendants(process.pid)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_S)
            if number != signal.SIGKILL:
                assert (process.returncode, err, hint in out) == (128 + number, "", True)
            assert all_end(started, 10)
            process, before = start_run(tmp_path, "--resume", "x"), log.head().position
            wait_until(lambda before=before: any(log.read(after=before, kinds={"attempts_verified"}, limit=1)), process)
        finish(process)
        assert log.verify() is None
        kinds = [event.fact.kind for event in log.read("run")]
        assert (kinds.count("run_resumed"), kinds.count("iteration_finished"), kinds[-1]) == (3, 1, "run_finished")
        streams = {event.stream for event in log.read() if event.stream.startswith("episode/")}
        assert sorted(event.stream for event in log.read(kinds={"episode_finished"})) == sorted(streams)
        assert len(streams) == 7
        summary = fold(RunSummary(), log.read())
    assert [update.policy for update in sorted(summary.updates, key=lambda update: update.policy)] == ["student", "teacher"]
    assert summary.policies["teacher"] != summary.policies["student"]
