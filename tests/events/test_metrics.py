"""Curves of a run: one place for every metric's name, TRL's where there is one."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from events.export.metrics import metric_points, run_curves
from events.facts.errors import BadInput
from events.facts.types import IterationStarted, PolicyServed
from events.facts.values import Digest, OptimizerStep
from events.stores.memory import MemoryLog
from tests.support.example_runs import START_WEIGHTS, example_run, policy_updated


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


def having(log: MemoryLog, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.values[name]) for point in metric_points(log.read()) if name in point.values]


def test_the_iteration_is_the_axis_and_times_are_those_of_the_events(log: MemoryLog) -> None:
    example_run(log).run().goalpost().evaluate().play().update().evaluate().play().update()
    kinds = ("iteration_finished", "policy_updated", "evaluation_finished")
    times = [event.time for event in log.read(kinds=kinds)]
    points = list(metric_points(log.read()))
    assert [point.step for point in points] == [0, 1, 1, 1, 2, 2]
    assert [point.time for point in points] == times


def test_playing_gives_gap_acceptance_and_the_reasons_of_rejection_as_shares(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost(2).start(3)
    tale.episode(rejected=["degenerate", "malformed"], gap_successes=4).episode(lift=None).practice(passing=2).finish()
    (point,) = metric_points(log.read())
    assert point.values["gap"] == pytest.approx(0.8)
    assert point.values["practice/pass_rate"] == 0.25
    assert (point.values["episodes/played"], point.values["episodes/no_lift"], point.values["episodes/no_lemma"]) == (1, 1, 0)
    easy = {
        name.removeprefix("teacher/easy/"): value for name, value in point.values.items() if name.startswith("teacher/easy")
    }
    assert (easy["accepted"], easy["rejected/degenerate"], easy["rejected/malformed"], easy["rejected/too_hard"]) == (
        0.5,
        0.25,
        0.25,
        0,
    )
    assert (easy["pass_rate"], easy["diversity"]) == (0.5, 0.75)


def test_a_delivery_is_a_point_of_the_iteration_that_made_the_weights(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost()
    for far in (None, 2e-06, 4e-06):
        log.append("run", [PolicyServed(role="student", policy=tale.policies["student"], difference=far, mean_difference=far)])
        if far:
            tale.play().update()
    assert having(log, "served/student/difference") == [(0, 2e-06), (1, 4e-06)]
    assert having(log, "served/student/mean_difference") == [(0, 2e-06), (1, 4e-06)]


def test_a_share_of_nothing_is_no_point(log: MemoryLog) -> None:
    example_run(log).run().goalpost().start(1).practice().finish()
    (point,) = metric_points(log.read())
    assert not {"gap", "teacher/easy/accepted", "teacher/reward"} & point.values.keys()


def test_rewards_are_told_by_role_and_by_seat_or_task(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost().start(3)
    tale.episode(lemma=5, lift=None, task="deduction").practice(passing=8, attempts=8).practice(passing=0, attempts=4).finish()
    (point,) = metric_points(log.read())
    values = point.values
    assert values["teacher/rewards/easy/mean"] == 0.75
    assert values["student/rewards/deduction/mean"] == 0.25
    assert values["student/rewards/deduction/std"] == pytest.approx(0.8660254)
    assert values["student/reward"] == pytest.approx((0.25 * 4 + 8 * 1 - 0.5 * 4) / 16)
    assert values["student/frac_reward_zero_std"] == pytest.approx(2 / 3)
    # The teacher's groups hold one completion, which cannot differ from itself.
    assert "teacher/frac_reward_zero_std" not in values


def test_an_update_gives_means_over_tokens_of_its_steps(log: MemoryLog) -> None:
    example_run(log).run().goalpost().play()
    first = policy_updated(iteration=1, after=0, until=9).steps[0]
    second = first.model_copy(update={"tokens": 600, "metrics": {"loss": 0.1, "grad_norm": 2.0}})
    idle = OptimizerStep(phase="solve", groups=8, silent_groups=8, samples=0, tokens=0, reward=0.0, metrics={})
    fact = policy_updated(iteration=1, after=0, until=9).model_copy(update={"steps": (first, second, idle)})
    log.append("policy/shared", [fact])
    values = list(metric_points(log.read()))[-1].values
    assert values["shared/loss"] == pytest.approx((0.5 * 200 + 0.1 * 600) / 800)
    assert (values["shared/grad_norm"], values["shared/kl"]) == (2.0, 0.01)
    assert (values["shared/tokens"], values["shared/frac_silent_groups"]) == (800, 10 / 16)


def test_staleness_counts_the_updates_between_sampling_and_learning(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost().play().update().play()
    # The third iteration still plays with the weights of the second.
    late = tale.policies
    tale.update()
    log.append("run", [IterationStarted(iteration=3, policies=late, episodes=0)])
    log.append("policy/shared", [policy_updated(iteration=3, after=0, until=9, parent=tale.policies["student"])])
    assert having(log, "shared/staleness") == [(1, 0), (2, 0), (3, 1)]


def test_separate_policies_have_curves_of_their_own(log: MemoryLog) -> None:
    example_run(log).run().goalpost().play()
    log.append("policy/teacher", [policy_updated(iteration=1, after=0, until=9, policy="teacher")])
    log.append("policy/student", [policy_updated(iteration=1, after=0, until=9, policy="student")])
    assert having(log, "teacher/loss") == having(log, "student/loss") == [(1, 0.5)]


def test_evaluations_are_told_by_set_and_k(log: MemoryLog) -> None:
    example_run(log).run().evaluate(successes=2).evaluate("goalposts", successes=0)
    assert having(log, "eval/test/pass_at_1") == [(0, 0.1)]
    assert having(log, "eval/goalposts/solved") == [(0, 0)]


def test_names_that_trl_has_are_trls(log: MemoryLog) -> None:
    spec = find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "trainer" / "grpo_trainer.py").read_text(encoding="utf-8")
    example_run(log).run().goalpost().play().update()
    roles = {"teacher/": "", "student/": "", "shared/": ""}
    ours = {name.removeprefix(role) for point in metric_points(log.read()) for name in point.values for role in roles}
    for name in ("reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "kl"):
        assert name in ours
        assert f'["{name}"]' in source
    assert "rewards/induction/mean" in ours
    assert 'f"rewards/{reward_func_name}/mean"' in source


def test_settings_are_flat_and_name_the_log(log: MemoryLog) -> None:
    example_run(log).run(seed=3, learn={"learning_rate": 1e-3, "layers": [1, 2]}).goalpost()
    settings = run_curves(log).settings
    assert (settings["seed"], settings["learn.learning_rate"], settings["learn.layers.1"]) == (3, 1e-3, 2)
    assert (settings["commit"], settings["policies.student"]) == ("unknown", START_WEIGHTS)
    assert (settings["log.position"], settings["log.head"]) == log.head()


def test_settings_hold_no_secrets(log: MemoryLog) -> None:
    example_run(log).run(server={"api_key": "k3y-of-mine", "url": "http://me:pa55word@host/v1"}, tokens=[{"password": "0pen"}])
    points = str(run_curves(log).settings)
    assert "server.api_key" in points
    assert not [secret for secret in ("k3y-of-mine", "pa55word", "0pen") if secret in points]


def test_curves_end_where_the_log_ended_when_they_began(log: MemoryLog) -> None:
    tale = example_run(log).run().goalpost().play()
    curves = run_curves(log)
    tale.update()
    assert [point.step for point in curves.points] == [1]


def test_an_empty_log_has_no_curves(log: MemoryLog) -> None:
    with pytest.raises(BadInput, match="empty"):
        run_curves(log)


def test_what_nobody_played_is_not_stale(log: MemoryLog) -> None:
    log.append("policy/shared", [policy_updated(iteration=1, after=0, until=9, parent=Digest("0" * 64))])
    (point,) = metric_points(log.read())
    assert "shared/staleness" not in point.values
