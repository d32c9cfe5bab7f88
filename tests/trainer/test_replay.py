"""What the trainer reads from a log."""

import math
from dataclasses import replace

import pytest

from events.facts.errors import LogCorrupt, TrainerError
from events.facts.log import find_run_started
from events.facts.rollouts import pack_rollouts
from events.facts.types import AttemptsMade, EpisodeFailed, RewardGiven, RunResumed
from events.facts.values import Digest, Sampling
from events.facts.weight_facts import WeightsPruned
from events.stores.memory import MemoryLog
from graph.recipes.sqlm import Sqlm
from tests.support.example_runs import START_WEIGHTS, ExampleRun, example_run, question
from trainer.data import replay
from trainer.data.replay import Cursor, IterationRollouts

OTHER = Digest("f" * 64)


def window(example_run: ExampleRun, after: int = 0) -> IterationRollouts:
    end = replay.next_finished_iteration(example_run.log, after)
    assert end is not None
    return replay.iteration_rollouts(example_run.log, Cursor("shared", START_WEIGHTS, until=after, step=0, version=0), end)


def played() -> ExampleRun:
    return example_run(MemoryLog()).run().goalpost().start(2)


def broken_group(**change) -> ExampleRun:
    """An iteration with one rewarded generation that is changed."""
    example = played().open(question(7), "practice")
    generation = example.generation("Solve", 3).model_copy(update=change)
    fact = AttemptsMade(purpose="practice", question=question(7).id, task="induction", generation=generation)
    example.reward(example.log.append(example.stream, [fact])[0], "practice", "student", "induction", [1.0, 0.0, 0.0])
    return example.finish()


def test_samples_are_exactly_what_was_sampled_and_rewarded() -> None:
    example = played().episode(task="abduction").finish()
    rewards = list(example.log.read(kinds=("reward_given",)))
    groups = window(example).groups
    assert [group.position for group in groups] == [event.position for event in rewards]
    for group, event in zip(groups, rewards, strict=True):
        assert isinstance(event.fact, RewardGiven)
        assert group.rewards == event.fact.rewards
        assert (group.phase, group.role, group.task) == (event.fact.phase, event.fact.role, event.fact.task)
        assert all(
            (rollout.stream, rollout.version, rollout.policy) == (event.stream, event.fact.of, START_WEIGHTS)
            for rollout in group.rollouts
        )
        assert [rollout.index for rollout in group.rollouts] == list(range(len(group.rollouts)))
        assert all(len(rollout.ids) == len(rollout.logprobs) > 0 for rollout in group.rollouts)


def test_a_group_knows_its_prompt_and_what_another_recipe_masks_is_left_out() -> None:
    example = played().episode(lemma=4, rejected=["unsafe", "broken"]).finish()
    groups = window(example).groups
    first, second, lemma = (group for group in groups if group.phase == "lemma")
    # All three were asked to vary one goalpost.
    assert first.prompt == second.prompt == lemma.prompt != ""
    assert lemma.prompt not in {group.prompt for group in groups if group.phase != "lemma"}
    end = replay.next_finished_iteration(example.log, 0)
    cursor = Cursor("shared", START_WEIGHTS, until=0, step=0, version=0)
    masked = replay.iteration_rollouts(example.log, cursor, end, Sqlm()).groups
    assert [group.position for group in masked] == [
        group.position for group in groups if group.position not in (first.position, second.position)
    ]


def test_attempts_without_a_reward_are_not_learned_from() -> None:
    example = played().episode(lemma=None).finish()
    assert [group.role for group in window(example).groups] == ["teacher"]


def test_a_failed_episode_contributes_nothing_even_if_it_was_rewarded() -> None:
    example = played().practice()
    example.log.append(example.stream, [EpisodeFailed(error="SandboxError", message="gone")])
    example.practice().finish()
    assert {rollout.stream for group in window(example).groups for rollout in group.rollouts} == {example.stream}


def test_given_texts_are_learned_from_unless_their_episode_failed() -> None:
    example = played().practice()
    first = example.give(learned=5, context=3)
    example.log.append(example.stream, [EpisodeFailed(error="SandboxError", message="gone")])
    second = example.give(learned=5, context=3)
    digest = window(example.finish()).digest
    *_, group = window(example).groups
    (text,) = group.rollouts
    assert (group.phase, group.position, text.stream) == ("text", second.position, second.stream)
    assert (len(text.ids), text.tokens, text.policy) == (8, 5, "")
    assert first.stream not in {rollout.stream for group in window(example).groups for rollout in group.rollouts}
    # The digest is of the texts as well.
    other = played().practice()
    other.give(learned=5, context=3)
    assert window(other.finish()).digest != digest


def test_a_text_whose_tokens_do_not_fit_it_is_an_error() -> None:
    example = played()
    fact = example.give().fact
    example.log.append(example.stream, [fact.model_copy(update={"length": 3})])
    with pytest.raises(TrainerError, match="gives a text whose tokens do not fit it"):
        window(example.finish())


def test_each_window_starts_where_the_last_one_ended() -> None:
    example = played().play().play()
    first = replay.next_finished_iteration(example.log, 0)
    assert first is not None
    second = window(example, after=first.position)
    assert (second.after, second.iteration) == (first.position, 3)
    assert replay.next_finished_iteration(example.log, second.until) is None


def test_an_unfinished_iteration_waits() -> None:
    assert replay.next_finished_iteration(played().episode().log, 0) is None


def test_the_sample_digest_tells_samples_apart() -> None:
    def digest(**change) -> str:
        return window(broken_group(**change)).digest

    assert digest() == digest()
    assert digest(sampling=Sampling(temperature=0.5)) != digest()


def test_stale_weights_are_named_with_position_and_both_digests() -> None:
    example = broken_group(policy=OTHER)
    with pytest.raises(TrainerError, match=rf"Position \d+ .*{OTHER}.*{START_WEIGHTS}"):
        window(example)


def test_a_reward_of_an_unknown_generation_is_an_error() -> None:
    example = played().open(question(7), "practice")
    fact = RewardGiven(of=1, phase="practice", role="student", task="induction", rewards=(1.0,))
    example.log.append(example.stream, [fact])
    with pytest.raises(TrainerError, match="nothing was generated"):
        window(example.finish())


def test_rewards_without_a_start_of_their_iteration_are_an_error() -> None:
    example = example_run(MemoryLog()).run().practice()
    example.iteration = 1
    with pytest.raises(TrainerError, match="never started"):
        window(example.finish())


def test_nucleus_and_greedy_samples_are_refused() -> None:
    for sampling in (Sampling(top_p=0.9), Sampling(temperature=0)):
        with pytest.raises(TrainerError, match="cannot be computed again"):
            window(broken_group(sampling=sampling))


def test_a_missing_rollouts_blob_is_an_error() -> None:
    with pytest.raises(LogCorrupt):
        window(broken_group(tokens="0" * 64))


def test_a_rollouts_blob_that_was_cut_is_an_error() -> None:
    log = MemoryLog()
    whole = pack_rollouts([1], [[1]], [[-1.0]])
    example = example_run(log).run().start().open(question(7), "practice")
    generation = example.generation("Solve", 1).model_copy(update={"tokens": log.put(whole[: len(whole) // 2]), "length": 1})
    made = log.append(
        example.stream, [AttemptsMade(purpose="practice", question=question(7).id, task="induction", generation=generation)]
    )[0]
    example.reward(made, "practice", "student", "induction", [1.0]).finish()
    with pytest.raises(LogCorrupt, match="no token arrays"):
        window(example)


@pytest.mark.parametrize(
    ("prompt", "ids", "logprobs", "problem"),
    [
        ([1], [[1, 2]], [[-1.0, -1.0]], "does not fit"),
        ([], [[1]] * 3, [[-1.0]] * 3, "empty prompt"),
        ([1], [[1]] * 3, [[math.nan]] * 3, "not numbers"),
    ],
)
def test_rollouts_that_cannot_be_learned_from_are_refused(prompt, ids, logprobs, problem) -> None:
    log = MemoryLog()
    blob = log.put(pack_rollouts(prompt, ids, logprobs))
    example = example_run(log).run().start().open(question(7), "practice")
    generation = example.generation("Solve", 3).model_copy(update={"tokens": blob, "length": sum(map(len, ids))})
    fact = AttemptsMade(purpose="practice", question=question(7).id, task="induction", generation=generation)
    made = log.append(example.stream, [fact])[0]
    example.reward(made, "practice", "student", "induction", [1.0, 0.0, 0.0]).finish()
    with pytest.raises(TrainerError, match=problem):
        window(example)


def test_the_cursor_is_the_start_of_the_run_and_then_the_last_update() -> None:
    example = played().practice().finish()
    start = find_run_started(example.log)
    assert start is not None
    assert replay.policy_cursor(example.log, "shared", start) == Cursor("shared", START_WEIGHTS, until=0, step=0, version=0)
    example.update()
    place = replay.policy_cursor(example.log, "shared", start)
    assert (place.digest, place.version, place.step) == (example.policies["student"], 1, 1)
    assert place.until == example.log.head().position - 1
    example.log.append("policy/shared", [WeightsPruned(digests=(START_WEIGHTS,))])
    assert replay.policy_cursor(example.log, "shared", start) == replace(place, version=2)


def test_the_cursor_knows_the_optimizers_state_from_the_start_on() -> None:
    example = played().finish()
    start = find_run_started(example.log)
    assert start is not None
    named = start.model_copy(update={"inputs": {"optimizer": "a" * 64}})
    assert replay.policy_cursor(example.log, "shared", named).optimizer == "a" * 64
    [event] = example.update().log.read("policy/shared")
    assert replay.policy_cursor(example.log, "shared", named).optimizer == event.fact.optimizer


def test_a_resumed_run_is_not_over() -> None:
    example = played().finish().end()
    assert replay.is_run_over(example.log, 0)
    example.log.append("run", [RunResumed(position=example.log.head().position)])
    assert not replay.is_run_over(example.log, 0)
