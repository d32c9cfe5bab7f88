"""A run that was stopped at any moment goes on as if it had not been: the same samples to the last bit, in the same order."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from events.facts.log import Event
from events.facts.types import PolicyProbed, PolicyUpdated, RunStarted
from events.stores import open_log
from events.stores.memory import MemoryLog
from graph.play.scheduler import make_scheduler
from graph.settings.configure import configure
from graph.setup.assemble import assemble_play, record_goalposts
from graph.setup.run_inputs import read_inputs
from roles.models.transformers import TransformersModel
from roles.questions.load import load_questions
from roles.questions.question_set import save_questions
from tests.support.processes import finish, start_command, start_run, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SETTINGS = (
    "play.iterations=1", "play.episodes=3", "play.practice=3", "play.practice_attempts=8", "play.attempts=10",
    "play.gap_attempts=10", "play.max_attempts=2", "evaluate.questions=3", "evaluate.attempts=2", "test=none",
)  # fmt: skip


class RecordingLog(MemoryLog):
    """A log that remembers its appends, so that one can be made that was cut after any of them, as by `kill -9`."""

    def __init__(self, appends=()):
        super().__init__()
        self.appends = []
        for blobs, request in appends:
            for blob in blobs:
                super().put(blob)
            self._append(request)

    def _append(self, request):
        staged = list(self._staged.values())
        events = super()._append(request)
        self.appends.append((staged, request))
        return events


class IdleTrainer:
    """Learns nothing, and asks the model what a trainer's probe would say."""

    def __init__(self, log, model):
        self.log, self.model = log, model

    async def wait_for_update(self, policy, iteration):
        if not any(event.fact.iteration == iteration for event in self.log.read(f"policy/{policy}")):
            same = {"parent": self.model.policy, "digest": self.model.policy}
            fact = PolicyUpdated(policy=policy, iteration=iteration, after=0, until=0, samples="", step=0, steps=(), **same)
            self.log.append(f"policy/{policy}", [fact])
        return self.model.policy

    async def wait_for_probe(self, policy, digest):
        return PolicyProbed(digest=digest, tokens=(1, 2, 3), logprobs=await self.model.logprobs_of((1, 2, 3)))


STAGED = ("play.iterations=2", "play.practice=8", "evaluate.first=false")
"""A stage of answers, and one of given texts, which depend on them."""


@pytest.fixture(scope="module", params=["gasp_real", "azr", "sqlm", "r_tuning"])
def played(request, runner, tmp_path_factory):
    config = configure(None, [*SETTINGS, f"recipe={request.param}", *(STAGED if request.param == "r_tuning" else ())])
    inputs, folder = read_inputs(config), tmp_path_factory.mktemp("run")
    model = TransformersModel(inputs.model, inputs.digest, max_prompt_tokens=config.max_prompt_tokens)

    async def play(log):
        if not log.head().position:
            policies = dict.fromkeys(config.policy_of, inputs.digest)
            settings = config.model_dump(mode="json")
            log.append("run", [RunStarted(config=settings, versions={}, commit="", policies=policies, inputs={})])
            record_goalposts(log, inputs.goalposts)
        going = make_scheduler(config.play.order)
        made = {"models": {"shared": model}, "trainer": IdleTrainer(log, model), "scheduler": going}
        await assemble_play(folder, config, log, inputs, runner=runner, **made).run()
        return log

    return play


async def test_a_run_that_was_cut_anywhere_ends_with_the_head_of_one_that_was_not(played):
    whole = await played(RecordingLog())
    count = len(whole.appends)
    # Without what it asked before, the run differs after cuts 17, 23, 29 and 59 (gasp_real) and 14 (azr), where this was written.
    for cut in sorted(cut for cut in {*range(5, count, 48), 14, 23, 59} if cut < count):
        assert (await played(RecordingLog(whole.appends[:cut]))).head() == whole.head(), f"after append {cut} of {count}"


# With an entropy bonus something is learned also where all answers to a question are judged alike, as few are on some processors.
TWICE = (*SETTINGS, "play.iterations=2", "evaluate.first=false", "learn.entropy=0.01")
RECIPES_KILLED = {
    "azr": (),
    "sqlm": ("learn.teaches_every=1", "verify.ties=first"),
    "r_tuning": ("play.practice=8",),
    "darc": ("documents.iterations=1", "play.iterations=3", "play.practice=2", "play.episodes=4", "documents.source={documents}"),
    "soar": (
        "play.attempts=8", "play.episodes=4", "trials.sets=2", "trials.steps=2", "trials.later_steps=2", "trials.questions=2",
        "trials.questions_per_step=2", "trials.window=1", "trials.threshold=-1",
    ),
}  # fmt: skip
"""Recipes with settings of a small run; of every one that learns in a way of its own there is one."""


@pytest.mark.parametrize(
    "recipe", [name if name == "azr" else pytest.param(name, marks=pytest.mark.endurance) for name in RECIPES_KILLED]
)
def test_the_weights_after_kill_9_in_mid_iteration_are_those_of_an_undisturbed_run_and_of_its_log(recipe, tmp_path):
    save_questions(tmp_path / "documents.jsonl", load_questions("pocket", "documents").questions[:1])
    own = [setting.format(documents=tmp_path / "documents.jsonl") for setting in RECIPES_KILLED[recipe]]
    settings = [*TWICE, f"recipe={recipe}", *own]
    finish(start_run(tmp_path, "--name", "whole", settings=settings))
    with closing(open_log(tmp_path / "whole" / "log.sqlite")) as log:
        whole = list(log.read())
    began = [event.position for event in whole if event.fact.kind == "iteration_started"][-1]
    ended = [event.position for event in whole if event.fact.kind == "iteration_finished"][-1]
    process = start_run(tmp_path, "--name", "cut", settings=settings)
    wait_until(lambda: reached(tmp_path / "cut" / "log.sqlite") >= began + 2 / 3 * (ended - began), process, pause_s=0.02)
    process.kill()
    process.communicate()
    finish(start_run(tmp_path, "--resume", "cut"))
    with closing(open_log(tmp_path / "cut" / "log.sqlite")) as log:
        cut = list(log.read())
    assert sum(event.fact.kind == "run_resumed" for event in cut) == 1
    assert digests(cut) == digests(whole)
    assert len({digest for _, digest in digests(whole)}) > 1, "else nothing was learned"
    # Every episode, evaluation and question, with all that was sampled, and in the same order.
    for one, other in zip(recorded_messages(cut), recorded_messages(whole), strict=True):
        assert one == other
    # Offline the trainer compares each update with the recorded one, and stops where they differ.
    again = start_command("trainer.run", tmp_path / "again", "--offline", tmp_path / "cut", "--verify", fresh=False)
    _, err = again.communicate()
    assert again.returncode == 0, err
    with closing(open_log(tmp_path / "again" / "log.sqlite")) as log:
        assert digests(list(log.read())) == digests(whole)


def reached(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(open_log(path)) as log:
        return log.head().position


def digests(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.fact.policy, event.fact.digest) for event in events if isinstance(event.fact, PolicyUpdated)]


def recorded_messages(events: list[Event]) -> list[tuple[str, int, str]]:
    return [(event.stream, event.version, event.hash) for event in events if not event.stream.startswith(("run", "policy/"))]
