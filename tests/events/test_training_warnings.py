"""Diagnosis speaks on planted collapses, each with its name and numbers, and is silent on what is healthy."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from events.export.metrics import metric_points
from events.facts.values import OptimizerStep
from events.projections.run_summary import RunSummary, fold
from events.reports.learning import step_header, step_lines
from events.reports.run_overview import overview, overview_json
from events.reports.training_warnings import WARNING_NAMES, WINDOW, diagnose
from events.stores.memory import MemoryLog
from tests.support.example_runs import example_run, policy_updated

HEALTHY = {
    "loss": 0.1, "entropy": 0.5, "clip_ratio/region_mean": 0.01, "grad_norm": 0.3,
    "sampling/sampling_logp_difference/mean": 1e-6, "sampling/kl_k3": 1e-4,
    "sampling/effective_sample_share": 0.99,
}  # fmt: skip


def step(phase="practice", *, reward=0.2, groups=10, silent_groups=2, silent=None, samples=40, tokens=800, **metrics):
    return OptimizerStep(
        phase=phase,
        groups=groups,
        silent_groups=silent_groups,
        silent={"all_wrong": 8 * silent_groups} if silent is None else silent,
        samples=samples,
        tokens=tokens,
        reward=reward,
        metrics={**HEALTHY, **{name.replace("__", "/"): value for name, value in metrics.items()}} if samples else {},
    )


def learned(*steps, stale=False, policy="shared", **config) -> MemoryLog:
    """A run with an update for each of these steps; `stale`: all of it is played by the first weights."""
    log = MemoryLog()
    example = example_run(log).run(**config).goalpost()
    parent = example.policies["student"]
    for number, taken in enumerate(steps, 1):
        example.start(1).practice(passing=2).finish()
        fact = policy_updated(iteration=number, after=0, until=number, parent=parent, policy=policy)
        log.append(f"policy/{policy}", [fact.model_copy(update={"steps": (taken,)})], observed={"tokens_per_second": 1234.5})
        parent = fact.digest
        if not stale:
            example.policies = dict.fromkeys(example.policies, parent)
    return log


def names(log: MemoryLog) -> list[str]:
    return [symptom.name for symptom in diagnose(fold(RunSummary(), log.read()))]


COLLAPSED = {
    "entropy_collapse": step(entropy=0.03),
    "all_wrong": step(silent_groups=10, samples=0, tokens=0, reward=-0.5),
    "all_right": step(silent_groups=10, samples=0, tokens=0, reward=1.0, silent={"all_right": 80}),
    "length_explosion": step(tokens=2000, reward=0.1),
    "off_policy": step(**{"clip_ratio__region_mean": 0.4}),
    "logprob_mismatch": step(**{"sampling__sampling_logp_difference__mean": 0.05}),
}


def test_every_warning_is_planted_below():
    assert set(COLLAPSED) == set(WARNING_NAMES)


@pytest.mark.parametrize("name", WARNING_NAMES)
def test_a_collapse_is_named_alone_and_with_its_numbers(name):
    (symptom,) = diagnose(fold(RunSummary(), learned(*[step()] * 4, *[COLLAPSED[name]] * WINDOW).read()))
    assert (symptom.name, symptom.policy, symptom.iteration, symptom.phase) == (name, "shared", 4 + WINDOW, "practice")
    assert any(char.isdigit() for char in symptom.evidence)
    assert f"{name.replace('_', ' ')} (shared, practice of iteration 7)" in str(symptom)


def test_what_is_healthy_is_silent():
    assert not names(learned(*[step()] * 8))
    assert not names(learned(*[step(entropy=0.5 - 0.05 * n, tokens=800 + 50 * n, silent_groups=n) for n in range(8)]))


def test_one_odd_update_is_no_symptom():
    assert not names(learned(*[step()] * 4, step(entropy=0.01, silent_groups=10, tokens=1200), *[step()] * 2))


def test_the_first_updates_are_compared_with_nothing():
    assert not names(learned(step(), step(entropy=0.001, tokens=9000)))


def test_longer_answers_that_earn_more_are_no_explosion():
    assert not names(learned(*[step()] * 4, *[step(tokens=4000, reward=0.9)] * WINDOW))


def test_few_groups_are_no_share():
    assert not names(learned(*[step()] * 4, *[step(groups=2, silent_groups=2)] * WINDOW))


def test_old_samples_differ_without_a_mismatch():
    off = step(**{"sampling__sampling_logp_difference__mean": 0.05})
    assert not names(learned(*[step()] * 4, off, stale=True))
    assert not diagnose(fold(RunSummary(), learned(off).read(kinds={"policy_updated"})))
    assert names(learned(off)) == ["logprob_mismatch"]


def test_a_mismatch_that_is_corrected_is_no_symptom():
    off = step(**{"sampling__sampling_logp_difference__mean": 0.05})
    assert not names(learned(off, learn={"importance": "truncate"}))
    assert names(learned(off, learn={"importance": "none"})) == ["logprob_mismatch"]


def test_samples_that_no_longer_stand_for_the_policy_are_off_policy():
    old = step(**{"sampling__effective_sample_share": 0.3})
    assert names(learned(*[step()] * 4, *[old] * WINDOW, stale=True)) == ["off_policy"]


def test_a_symptom_ends_when_its_cause_does():
    assert not names(learned(*[step()] * 4, *[COLLAPSED["entropy_collapse"]] * WINDOW, *[step()] * WINDOW))


def test_warnings_are_metrics_for_as_long_as_they_last():
    log = learned(*[step()] * 4, *[COLLAPSED["all_wrong"]] * WINDOW, *[step()] * WINDOW)
    flags = {point.step: point.values for point in metric_points(log.read()) if "shared/warnings/all_wrong" in point.values}
    assert [number for number, values in flags.items() if values["shared/warnings/all_wrong"]] == [4 + WINDOW]
    assert set(flags[1]) >= {f"shared/warnings/{name}" for name in WARNING_NAMES}
    assert flags[1]["shared/tokens_per_second"] == 1234.5


def test_a_step_is_one_line_under_its_heading():
    summary = fold(RunSummary(), learned(step(kl=0.02), step(samples=0, tokens=0)).read())
    first, second = (line for update in summary.updates for line in step_lines(summary, update))
    assert len(step_header()) == len(first) == len(second) <= 100
    assert dict(zip(step_header().replace("KL ", "KL-").split(), first.split(), strict=True)) == {
        "it": "1", "policy": "shared", "phase": "practice", "reward": "0.20", "pass": "0.25",
        "KL-old": "1.0e-04", "KL-ref": "2.0e-02", "entropy": "0.500", "clip": "0.010",
        "grad": "0.30", "silent": "2/10", "stale": "0", "tokens/s": "1,234",
    }  # fmt: skip
    assert second.split()[5:10] == ["–"] * 5


def test_the_pass_rate_is_that_of_the_phase():
    log = MemoryLog()
    example = example_run(log).run().goalpost().start(2).episode(lemma=5, lift=2).practice(passing=3).finish()
    fact = policy_updated(iteration=1, after=0, until=1, parent=example.policies["student"])
    steps = tuple(step(phase) for phase in ("lemma", "lift", "solve", "practice"))
    log.append("policy/shared", [fact.model_copy(update={"steps": steps})])
    summary = fold(RunSummary(), log.read())
    assert [line.split()[4] for line in step_lines(summary, summary.updates[0])] == ["0.50", "0.20", "0.50", "0.38"]


def test_the_trace_shows_symptoms():
    summary = fold(RunSummary(), learned(*[step()] * 4, *[COLLAPSED["length_explosion"]] * WINDOW).read())
    console = Console(file=io.StringIO(), width=300)
    console.print(overview(summary))
    assert (
        "warning: length explosion (shared, practice of iteration 7): completions grew from 20 to 50" in console.file.getvalue()
    )
    assert [symptom["name"] for symptom in overview_json(summary)["warnings"]] == ["length_explosion"]
