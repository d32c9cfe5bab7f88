"""From finished iterations to a chain of updates, in this process."""

import shutil
from pathlib import Path

import pytest

from events.facts.errors import Conflict, LogCorrupt, TrainerError
from events.facts.log import Event, Log, find_run_started
from events.facts.types import EpisodeFailed, IterationStarted, PolicyProbed, PolicyServed, PolicyUpdated
from events.facts.values import Digest
from events.facts.weights import optimizer_digest, weights_digest
from events.process.activity import Activity
from events.stores.memory import MemoryLog
from graph.settings.config import LearnSettings
from tests.support.tiny_model import TinyModelRun, load_model, logprobs, tiny_weights
from trainer.job.update_schedule import UpdateSchedule
from trainer.learn import step
from trainer.learn.loop import Trainer
from trainer.learn.policies import PolicyStore


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Digest]:
    store = tmp_path_factory.mktemp("weights")
    return store, tiny_weights(store)


@pytest.fixture
def run(made, tmp_path) -> Path:
    shutil.copytree(made[0], tmp_path / "weights")
    return tmp_path


@pytest.fixture
def tell(made):
    """Begins a scene that the tiny weights play."""

    def begin(log: Log | None = None, *, honest: bool = True, **config) -> TinyModelRun:
        return TinyModelRun(log or MemoryLog(), made[0], made[1], honest=honest).run(**config).goalpost(2)

    return begin


def trainer(example: TinyModelRun, run: Path) -> Trainer:
    start = find_run_started(example.log)
    assert start is not None
    return Trainer(example.log, run, UpdateSchedule(example.log, start))


def learn(example: TinyModelRun, run: Path) -> list[PolicyUpdated]:
    return [fact(event) for event in trainer(example, run).catch_up()]


def test_an_update_says_how_far_it_is_up_to_all_its_tokens(tell, run, monkeypatch) -> None:
    example, heard, activity = tell(learn={"batch_tokens": 512}).play(), [], Activity()

    def watched(*arguments, progress):
        def both(done, of):
            progress(done, of)
            assert str(activity).startswith("learning from iteration 1 (shared)")
            task, _ = activity._tasks["tokens learned"]
            heard.append((task.done, task.total))

        return step.take_step(*arguments, progress=both)

    monkeypatch.setattr("trainer.learn.loop.take_step", watched)
    start = find_run_started(example.log)
    [event] = Trainer(example.log, run, UpdateSchedule(example.log, start), activity=activity).catch_up()
    tokens = sum(taken.tokens for taken in fact(event).steps)
    assert heard[-1] == (tokens, tokens)
    assert str(activity) == ""
    assert heard == sorted(heard)
    assert len(heard) == 2


def count(example: TinyModelRun, name: str = "shared") -> int:
    return sum(1 for _ in example.log.read(f"policy/{name}", kinds=("policy_updated",)))


def fact(event: Event) -> PolicyUpdated:
    assert isinstance(event.fact, PolicyUpdated)
    return event.fact


def test_updates_form_a_chain_over_all_finished_iterations(tell, run, made) -> None:
    example = tell().play().play().play(guided=1)
    ends = [event.position for event in example.log.read(kinds=("iteration_finished",))]
    updates = learn(example.start().episode(), run)
    assert [update.iteration for update in updates] == [1, 2, 3]
    assert [update.until for update in updates] == ends
    assert [update.after for update in updates] == [0, *ends[:-1]]
    assert [update.parent for update in updates] == [made[1], *[update.digest for update in updates[:-1]]]
    assert len({update.digest for update in updates}) == 3
    for update in updates[1:]:
        assert weights_digest(run / "weights" / update.digest) == update.digest
    assert count(example) == 3
    assert learn(example, run) == []


def test_there_is_a_probe_of_the_first_weights_and_with_every_update_one_of_its_own(tell, run, made) -> None:
    example = tell().play().start(1).practice(passing=0).finish().play()
    trainer(example, run).prepare()
    updates = learn(example, run)
    trainer(example, run).prepare()
    events = list(example.log.read("policy/shared"))
    kinds = [event.fact.kind for event in events]
    assert kinds == ["policy_probed", "policy_updated", "policy_probed", "policy_updated", "policy_updated", "policy_probed"]
    probes = [event.fact for event in events if isinstance(event.fact, PolicyProbed)]
    assert [probe.digest for probe in probes] == [made[1], updates[0].digest, updates[2].digest]
    for probe in probes:
        logprob_list = logprobs(
            load_model(run / "weights" / probe.digest), list(probe.tokens[:1]), list(probe.tokens[1:])
        ).tolist()
        assert list(probe.logprobs) == pytest.approx(logprob_list, abs=1e-5)
    assert len({probe.logprobs for probe in probes}) == 3


def test_weights_that_two_policies_begin_with_are_loaded_for_one_probe(tell, run, monkeypatch, made) -> None:
    example, probed, probe_stored = tell(policies="separate"), [], PolicyStore.probe_stored
    monkeypatch.setattr(PolicyStore, "probe_stored", lambda *given: probed.append(given[1:]) or probe_stored(*given))
    trainer(example, run).prepare()
    assert [digest for _, digest in probed] == [made[1]]
    facts = [event.fact for name in ("teacher", "student") for event in example.log.read(f"policy/{name}")]
    assert [fact.digest for fact in facts] == [made[1]] * 2
    assert facts[0] == facts[1]


def test_a_run_of_a_version_without_probes_gets_those_that_play_may_need(tell, run, made) -> None:
    example = tell(learn={"staleness": 1}).play()
    example.update(tiny_weights(run / "weights", seed=1)).play().update(tiny_weights(run / "weights", seed=2))
    trainer(example, run).prepare()
    probed = [event.fact.digest for event in example.log.read("policy/shared", kinds=("policy_probed",))]
    assert probed == [event.fact.digest for event in example.log.read("policy/shared", kinds=("policy_updated",))]


def test_each_phase_with_signal_is_one_optimizer_step(tell, run) -> None:
    [update] = learn(tell().start(3).episode(lemma=3).episode(lemma=5, lift=None).practice().finish(), run)
    assert [step.phase for step in update.steps] == ["lemma", "lift", "solve", "practice"]
    assert [step.samples > 0 for step in update.steps] == [True, True, True, True]
    assert update.step == 4
    assert update.steps[0].groups == 2
    assert update.steps[3].reward == pytest.approx((4 * 1.0 - 4 * 0.5) / 8)


def test_update_statistics_are_finite_and_named_as_trl_names_them(tell, run) -> None:
    [update] = learn(tell().play(), run)
    names = {"loss", "grad_norm", "learning_rate", "entropy", "clip_ratio/region_mean"}
    assert all(names <= step.metrics.keys() for step in update.steps if step.samples)


def test_what_clocks_say_stays_outside_of_the_hash(tell, run) -> None:
    [event] = list(trainer(tell().play(), run).catch_up())
    assert set(event.observed) == {"seconds", "tokens_per_second"}


def test_an_iteration_without_signal_is_consumed_with_the_same_weights(tell, run, made) -> None:
    first, second = learn(tell().start(1).practice(passing=0).finish().play(), run)
    assert (first.parent, first.digest, first.step) == (made[1], made[1], 0)
    assert [(step.samples, step.silent_groups) for step in first.steps] == [(0, 1)]
    assert second.parent == made[1] != second.digest


def test_an_iteration_without_episodes_is_consumed(tell, run, made) -> None:
    [update] = learn(tell().start(0).finish(), run)
    assert (update.digest, update.steps) == (made[1], ())


def test_failed_episodes_are_not_trained(tell, run) -> None:
    def story() -> TinyModelRun:
        return tell().start(2).practice(passing=3)

    failed = story().practice(passing=5)
    failed.log.append(failed.stream, [EpisodeFailed(error="SandboxError", message="gone")])
    [update], [other] = learn(failed.finish(), run), learn(story().fail().finish(), run)
    assert update.steps[0].groups == 1
    assert (update.samples, update.digest) == (other.samples, other.digest)


def test_separate_policies_have_separate_lineages(tell, run, made) -> None:
    example = tell(policies="separate").start(3).episode(lemma=3).episode().practice().finish().play()
    updates = learn(example, run)
    assert [(update.policy, update.iteration) for update in updates] == [
        ("teacher", 1),
        ("student", 1),
        ("teacher", 2),
        ("student", 2),
    ]
    for name in ("teacher", "student"):
        chain = [update for update in updates if update.policy == name]
        assert [update.parent for update in chain] == [made[1], chain[0].digest]
        assert count(example, name) == 2
    teacher, student = updates[:2]
    assert {step.phase for step in teacher.steps} == {"lemma", "lift"}
    assert {step.phase for step in student.steps} == {"solve", "practice"}
    assert teacher.digest != student.digest
    assert count(example) == 0


def test_a_new_trainer_goes_on_exactly_where_the_last_one_stopped(tell, run, tmp_path) -> None:
    straight, stopped = tell().play().play().play(), tell().play().play().play()
    whole = learn(straight, run)
    other = tmp_path / "other"
    shutil.copytree(run / "weights" / whole[0].parent, other / "weights" / whole[0].parent)
    assert [fact(next(trainer(stopped, other).catch_up())) for _ in range(3)] == whole


def test_an_update_whose_append_was_lost_is_made_again_with_the_same_digest(tell, run) -> None:
    lost, kept = tell().play(), tell().play()
    [first] = learn(lost, run)
    # The weights of the lost update lie there already, as after a crash just before the append.
    [again] = learn(kept, run)
    assert again == first


def test_stale_weights_stop_the_trainer_before_anything_is_learned(tell, run) -> None:
    example = tell().start(1)
    example.policies = {"teacher": Digest("f" * 64), "student": Digest("f" * 64)}
    example.practice().finish()
    with pytest.raises(TrainerError, match="stale weights"):
        learn(example, run)
    assert count(example) == 0


def test_logprobs_that_the_weights_did_not_give_stop_the_trainer(tell, run, made) -> None:
    example = tell(honest=False).play()
    with pytest.raises(TrainerError, match=r"differ by .* nats"):
        learn(example, run)
    assert count(example) == 0
    assert [folder.name for folder in (run / "weights").iterdir()] == [made[1]]


def test_a_corrupted_rollouts_blob_stops_the_trainer(tell, run, tmp_path) -> None:
    import sqlite3
    import zlib
    from contextlib import closing

    from events.stores import open_log

    path = tmp_path / "log.sqlite"
    with closing(open_log(path, create=True)) as log:
        example = tell(log).play()
        reward = next(event for event in log.read(kinds=("reward_given",)))
        made = next(event for event in log.read(reward.stream) if event.version == reward.fact.of)
        with closing(sqlite3.connect(path)) as db:
            for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                db.execute(f"DROP TRIGGER {trigger}")
            db.execute("UPDATE blobs SET content = ? WHERE hash = ?", (zlib.compress(b"x"), made.fact.generation.tokens))
            db.commit()
        with pytest.raises(LogCorrupt):
            learn(example, run)
        assert count(example) == 0


def test_of_two_trainers_one_records_and_the_other_is_told_or_stopped_if_it_learned_something_else(tell, run) -> None:
    example = tell().play()
    same, different = trainer(example, run), trainer(example, run)
    learn(example, run)
    list(same.catch_up())
    different._learn = lambda cursor, _: ([], cursor.digest)
    with pytest.raises(Conflict, match="let one trainer learn"):
        list(different.catch_up())
    assert count(example) == 1


def test_only_the_first_the_newest_and_the_named_weights_stay(tell, run, made) -> None:
    example = tell(learn={"keep": 1, "staleness": 0}).play()
    [first] = updates = learn(example, run)
    example.log.append("run", [PolicyServed(role="student", policy=first.digest)])
    for _ in range(3):
        updates += learn(example.load_weights(run / "weights", updates[-1].digest).play(), run)
    # The last update's parent counts as named.
    expected = {made[1], first.digest, updates[-2].digest, updates[-1].digest}
    assert {folder.name for folder in (run / "weights").iterdir()} == expected


def test_weights_of_the_iteration_being_played_stay(tell, run) -> None:
    example = tell(learn={"keep": 1, "staleness": 0}).play()
    [first] = learn(example, run)
    [second] = learn(example.load_weights(run / "weights", first.digest).play(), run)
    example.load_weights(run / "weights", second.digest).play()
    policies = {"teacher": first.digest, "student": first.digest}
    example.log.append("run", [IterationStarted(iteration=4, policies=policies, episodes=1)])
    learn(example, run)
    assert (run / "weights" / first.digest).is_dir()


def test_carried_moments_are_taken_from_the_weights_folder(tell, run, made) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = run / "weights" / made[1]
    names = load_file(folder / "model.safetensors")
    moments = {f"{name}.exp_avg_sq": torch.full_like(value, 0.25) for name, value in names.items()}
    cold = fact(next(trainer(tell().play(), run).catch_up()))
    save_file({**moments, "step": torch.tensor(2000.0)}, folder / "optimizer.moments")
    carried = fact(next(trainer(tell().play(), run).catch_up()))
    assert carried.digest != cold.digest
    full = LearnSettings().learning_rate
    assert carried.steps[-1].metrics["learning_rate"] == pytest.approx(full)
    assert cold.steps[-1].metrics["learning_rate"] < full
    assert float(load_file(run / "weights" / carried.digest / "optimizer.moments")["step"]) == 2000 + carried.step


def test_an_update_names_the_optimizers_state_and_a_changed_one_stops_the_trainer(tell, run) -> None:
    example = tell().play()
    [first] = learn(example, run)
    folder = run / "weights" / first.digest
    assert first.optimizer == optimizer_digest(folder)
    content = bytearray((folder / "optimizer.moments").read_bytes())
    content[-1] ^= 1
    (folder / "optimizer.moments").write_bytes(content)
    with pytest.raises(TrainerError, match=rf"optimizer\.moments has the digest .* but the log says {first.optimizer}"):
        learn(example.play(), run)
    assert count(example) == 1


def test_an_update_without_signal_leaves_the_optimizers_state_as_it_was(tell, run) -> None:
    first, idle, last = learn(tell().play().start(1).practice(passing=0).finish().play(), run)
    assert (idle.digest, idle.optimizer) == (first.digest, first.optimizer)
    assert last.optimizer not in (None, first.optimizer)


def test_each_of_two_policies_follows_its_own_schedule(tell, run) -> None:
    settings = {"learning_rate": 1e-3, "teacher_learning_rate": 1e-4, "schedule": "linear", "schedule_steps": 4, "warm_up": 0}
    example = tell(policies="separate", learn=settings)
    for _ in range(2):
        example.start(2).episode(lemma=3, lift=None).episode(lift=None).finish()
    updates = learn(example, run)
    rates: dict[str, list[float]] = {"teacher": [], "student": []}
    for update in updates:
        rates[update.policy] += [step.metrics["learning_rate"] for step in update.steps if step.samples]
    for name, top in (("teacher", 1e-4), ("student", 1e-3)):
        assert rates[name] == pytest.approx([top * (1 - n / 4) for n in range(len(rates[name]))])
        assert len(rates[name]) >= 2


@pytest.mark.parametrize("settings", [{"optimizer": "adamw_8bit"}, {"precision": "bfloat16", "gradient_checkpointing": True}])
def test_a_run_with_other_arithmetic_is_as_reproducible(tell, run, settings) -> None:
    def story() -> TinyModelRun:
        return tell(learn={**settings, "drift": 2.0}).play().play()

    whole, stopped = learn(story(), run), story()
    assert [fact(next(trainer(stopped, run).catch_up())) for _ in range(2)] == whole
    assert whole[0].digest != whole[1].digest


def test_settings_of_another_version_are_named(tell, run) -> None:
    with pytest.raises(TrainerError, match=r"learn\.momentum"):
        trainer(tell(learn={"momentum": 1}), run)


def test_terms_of_the_loss_are_settings_of_a_run_and_pull_towards_its_first_weights(tell, run) -> None:
    settings = {"credit": "reinforce_plus_plus", "loss": "gspo", "kl": 0.1, "entropy": 0.01, "importance": "truncate"}
    first, second = learn(tell(learn=settings).play().play(), run)
    divergences = [step.metrics["kl"] for step in [*first.steps, *second.steps]]
    assert abs(divergences[0]) < 1e-6 < divergences[-1]
    assert all(step.samples + step.silent.get("empty", 0) > 0 for step in first.steps)


def test_weights_that_are_older_than_the_run_allows_are_named(tell, run, made) -> None:
    """The server was never told of the update: iteration 2 is played by the first weights, and says so."""
    example = tell(learn={"staleness": 0}).play()
    [first] = learn(example, run)
    with pytest.raises(TrainerError, match=rf"Iteration 2 .* {made[1]}, which is not among the newest 1 .*{first.digest}"):
        learn(example.play(), run)
    assert len(learn(tell(learn={"staleness": 1}).play().play(), run)) == 2


def test_a_server_that_claims_the_new_weights_and_serves_the_old_ones_is_caught_at_the_first_step(tell, run) -> None:
    example = tell(learn={"staleness": 0, "learning_rate": 0.1}).play()
    [first] = learn(example, run)
    example.policies = {"teacher": first.digest, "student": first.digest}
    with pytest.raises(TrainerError, match="which the log says sampled them"):
        learn(example.play(), run)


def test_logprobs_are_proved_by_the_weights_that_sampled_when_play_is_ahead(tell, run) -> None:
    example = tell(learn={"staleness": 1}).play()
    example.tamper = lambda ids, logprobs: (ids, [[value + 1.0 for value in row] for row in logprobs])
    with pytest.raises(TrainerError, match="which the log says sampled them"):
        learn(example.play(), run)
    assert count(example) == 1


def altered(ids, logprobs):
    return ids, [[logprobs[0][0] - 0.05, *logprobs[0][1:]], *logprobs[1:]]


def test_one_altered_logprob_is_caught_at_the_first_step(tell, run) -> None:
    example = tell()
    example.tamper = altered
    with pytest.raises(TrainerError, match=r"differ by 0\.050 nats in one token"):
        learn(example.play(), run)
    assert count(example) == 0
    loose = tell(learn={"drift": 0.5})
    loose.tamper = altered
    assert len(learn(loose.play(), run)) == 1


def test_a_truncated_token_array_is_caught_at_the_first_step(tell, run) -> None:
    example = tell()
    example.tamper = lambda ids, logprobs: ([ids[0][:-1], *ids[1:]], [logprobs[0][:-1], *logprobs[1:]])
    with pytest.raises(TrainerError, match="does not fit its generation"):
        learn(example.play(), run)
    assert count(example) == 0
