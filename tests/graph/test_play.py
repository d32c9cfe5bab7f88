"""Episodes through the real graph, verifier and sandbox, with a scripted model."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from events.facts.errors import SandboxError
from events.facts.types import AttemptsMade, EpisodeStarted, QuestionAccepted, QuestionRejected, QuestionValidated, RewardGiven
from events.facts.values import IOPair, Question
from events.stores.memory import MemoryLog
from graph.play.build import build
from graph.play.context import NodeContext, restore_novelty
from graph.play.edges import end_reason, successor
from graph.play.lockstep import Lockstep
from graph.play.state import EpisodeState, fold_episode
from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.settings.config import PlaySettings
from roles.generation_record import put_question
from roles.judging.similarity import NgramEmbedding, Novelty
from roles.prompt import Prompts
from roles.prompt_set import SHIPPED_PROMPTS
from roles.solver import Solver
from roles.teacher import Teacher
from roles.verifier import Verifier
from tests.support.scripted_model import ScriptedModel

pytestmark = pytest.mark.docker

GOALPOST = Question(
    statement="Given a list, sort it, then double every number, then drop the first.",
    public=(IOPair(input="[3, 1]", output="[6]"), IOPair(input="[2, 2, 1]", output="[4, 4]")),
    private=(IOPair(input="[5, 4, 3]", output="[8, 10]"), IOPair(input="[9]", output="[]")),
)
RIGHT = {
    "sort": "def f(x):\n    x = sorted(x)\n    return x",
    "sort and double": "def f(x):\n    x = sorted(x)\n    x = [2 * v for v in x]\n    return x",
}
WRONG = "def f(x):\n    return x"
INPUTS = "[3, 1]\n[2, 2, 1]\n[5, 4, 3]\n[9, 1]\n[1, 0, 7]"


def python(source):
    return f"```python\n{source}\n```"


def proposal(statement, source, inputs=INPUTS):
    return f"{python(source)}\n```message\n{statement}\n```\n```input\n{inputs}\n```"


class ScriptedAnswers:
    """The easy seat stumbles twice, then both seats ask something fair; the student passes half of the time."""

    def __init__(self):
        self.easy = [
            "no blocks at all",
            proposal("sort", "import random\ndef f(x):\n    return sorted(x, key=random.random)"),
            proposal("sort", RIGHT["sort"]),
        ]

    def __call__(self, prompt, seed, index):
        if "easier" in prompt:
            return self.easy[self.tries(prompt, seed)]
        if "harder" in prompt:
            return proposal("sort and double", RIGHT["sort and double"])
        if "find an input" in prompt:
            return "```input\n[1, 2, 3]\n```"
        if "what does it return" in prompt:
            return "```output\n[1]\n```"
        statement = re.search(r"^(sort.*|Given.*)$", prompt, re.MULTILINE)
        right = RIGHT.get(statement[1] if statement else "")
        return python(right if right and index % 2 else WRONG)

    def tries(self, prompt, seed):
        self.seen = [*getattr(self, "seen", []), seed] if seed not in getattr(self, "seen", []) else self.seen
        return self.seen.index(seed)


def node_context(log, runner, lockstep, script, play):
    model = lockstep.model(ScriptedModel(script))
    prompts = Prompts(SHIPPED_PROMPTS / "pocket")
    context = NodeContext(
        log=log,
        teacher=Teacher(model, prompts, log, play.teacher.sampling),
        solver=Solver(model, prompts, log),
        verifier=Verifier(lockstep.runner(runner), play.pairs, play.public_pairs),
        novelty=Novelty(NgramEmbedding()),
        recipe=Gasp(),
        play=play,
        similarity=0.95,
    )
    restore_novelty(log, context.novelty)
    return context


async def episode(log, runner, script, *, stream="episode/00001/000", seed=5, purpose="guided", question=GOALPOST, **settings):
    """Start or resume one episode and play it to its end."""
    lockstep = Lockstep()
    seated = node_context(log, runner, lockstep, script, PlaySettings(**settings))
    state = fold_episode(EpisodeState(stream=stream), log.read(stream))
    if state.version == 0:
        opening = EpisodeStarted(
            iteration=1, purpose=purpose, question=question.id, blob=put_question(log, question), axis="function", seed=seed
        )
        state = fold_episode(state, log.append(stream, [opening], expected=0))
    final = []

    async def run_episode():
        final.append((await build(seated.play, seated.recipe.plan).ainvoke({"episode": state}, context=seated))["episode"])

    await lockstep.play([run_episode()])
    return final[0]


def facts(log, kind=None, stream="episode/00001/000"):
    return [event.fact for event in log.read(stream) if kind is None or isinstance(event.fact, kind)]


async def test_an_episode_tells_its_story_in_order(log, runner):
    final = await episode(log, runner, ScriptedAnswers())
    kinds = [fact.kind for fact in facts(log)]
    proposing = ["question_proposed", "question_rejected", "reward_given"]
    asking = [
        "question_proposed", "question_validated", "attempts_made", "attempts_verified",
        "pass_rate_measured", "reward_given", "question_accepted",
    ]  # fmt: skip
    start = ["episode_started", "attempts_made", "attempts_verified", "gap_measured"]
    shown = [kind for kind in kinds if kind in {*start, *proposing, *asking}]
    assert shown[: len(start)] == start
    assert shown[4:10] == proposing * 2
    assert [fact.reason for fact in facts(log, QuestionRejected)] == ["malformed", "unsafe"]
    assert [fact.seat for fact in facts(log, QuestionAccepted)] == ["easy", "hard"]
    assert end_reason(final, 0.9, EpisodePlan()) == "played"
    assert final.gap == 1.0


async def test_rewards_are_the_recipes_and_name_what_they_reward(log, runner):
    await episode(log, runner, ScriptedAnswers())
    by_version = {event.version: event.fact for event in log.read("episode/00001/000")}
    teacher = [fact for fact in facts(log, RewardGiven) if fact.role == "teacher"]
    assert [(fact.phase, fact.rewards) for fact in teacher] == [
        ("lemma", (-1.0,)),
        ("lemma", (-1.0,)),
        ("lemma", (1.0,)),
        ("lift", (round(Gasp().teacher_reward("hard", 5, 10), 9),)),
    ]
    assert all(by_version[fact.of].kind == "question_proposed" for fact in teacher)
    student = [fact for fact in facts(log, RewardGiven) if fact.role == "student"]
    assert len(student) == 2
    assert all(len(fact.rewards) == by_version[fact.of].generation.count for fact in student)


async def test_the_hard_seat_never_sees_the_goalpost(log, runner):
    await episode(log, runner, ScriptedAnswers())
    lift = next(event.fact for event in log.read("episode/00001/000", kinds={"question_proposed"}) if event.fact.seat == "hard")
    prompt = log.get(lift.generation.prompt).decode()
    assert GOALPOST.statement not in prompt
    assert "sorted(x)" in prompt


async def test_private_pairs_never_reach_the_student(log, runner):
    await episode(log, runner, ScriptedAnswers())
    prompts = [log.get(fact.generation.prompt).decode() for fact in facts(log, AttemptsMade) if fact.task == "induction"]
    assert prompts
    assert not any("[5, 4, 3]" in prompt for prompt in prompts)


async def test_an_accepted_question_is_not_asked_again(log, runner):
    await episode(log, runner, ScriptedAnswers())
    await episode(log, runner, ScriptedAnswers(), stream="episode/00001/001", seed=6)
    again = facts(log, QuestionRejected, "episode/00001/001")
    assert [fact.reason for fact in again] == ["malformed", "unsafe", "not_novel"]
    assert again[-1].detail == "cosine similarity 1.000 to an accepted question, which has the same program but for names"
    assert facts(log, RewardGiven, "episode/00001/001")[-1].rewards == (-0.5,)


async def test_a_useless_operation_makes_a_question_degenerate(runner):
    log, script = MemoryLog(), ScriptedAnswers()
    script.easy = [proposal("sort", "def f(x):\n    x = sorted(x)\n    x = sorted(x)\n    return x")] * 3
    await episode(log, runner, script)
    assert {fact.reason for fact in facts(log, QuestionRejected)} == {"degenerate"}


async def test_a_program_that_remembers_earlier_calls_is_nondeterministic(runner):
    log, script = MemoryLog(), ScriptedAnswers()
    script.easy = [proposal("sort", "seen = []\ndef f(x):\n    seen.append(x)\n    return [len(seen), *x]")] * 3
    await episode(log, runner, script)
    assert {fact.reason for fact in facts(log, QuestionRejected)} == {"nondeterministic"}
    assert not facts(log, QuestionValidated)


async def test_siblings_cannot_both_keep_the_same_question(log, runner):
    scripts = ScriptedAnswers(), ScriptedAnswers()
    lockstep = Lockstep()

    def say(prompt, seed, index):
        return scripts[0](prompt, seed, index) if seed % 2 else scripts[1](prompt, seed, index)

    for script in scripts:
        script.easy = [proposal("sort", RIGHT["sort"])] * 9
    seated = node_context(log, runner, lockstep, say, PlaySettings())

    async def run_episode(number):
        stream = f"episode/00001/{number:03}"
        opening = EpisodeStarted(
            iteration=1, purpose="guided", question=GOALPOST.id, blob=put_question(log, GOALPOST), axis="io", seed=number
        )
        state = fold_episode(EpisodeState(stream=stream), log.append(stream, [opening], expected=0))
        await build(seated.play, seated.recipe.plan).ainvoke({"episode": state}, context=seated)

    await lockstep.play([run_episode(number) for number in range(3)])
    kept = [event.fact.question for event in log.read(kinds={"question_accepted"})]
    assert len(set(kept)) == len(kept) == 2
    assert {event.fact.reason for event in log.read(kinds={"question_rejected"})} == {"not_novel"}


@pytest.mark.parametrize("tasks", [("induction",), ("deduction", "abduction")])
async def test_questions_are_learned_from_in_the_forms_that_are_played(runner, tasks):
    learned = set()
    for seed in range(3):
        log = MemoryLog()
        await episode(log, runner, ScriptedAnswers(), seed=seed, tasks=tasks)
        student = [fact for fact in facts(log, RewardGiven) if fact.role == "student"]
        assert len(student) == 2
        learned |= {fact.task for fact in student}
        tried = [fact.task for fact in facts(log, AttemptsMade) if fact.purpose == "solve"]
        assert len(tried) == (0 if tasks == ("induction",) else 2)
    assert learned == set(tasks)


async def test_a_goalpost_is_tried_as_often_as_is_set(log, runner):
    await episode(log, runner, ScriptedAnswers(), gap_attempts=3)
    assert [fact.generation.count for fact in facts(log, AttemptsMade) if fact.purpose == "gap"] == [3]
    assert {fact.generation.count for fact in facts(log, AttemptsMade) if fact.purpose == "pass_rate"} == {
        PlaySettings().attempts
    }


async def test_practice_is_one_round_of_attempts(log, runner):
    await episode(log, runner, ScriptedAnswers(), purpose="practice")
    assert [fact.kind for fact in facts(log)] == ["episode_started", "attempts_made", "attempts_verified", "reward_given"]


async def test_equal_episodes_have_equal_heads(runner):
    heads = []
    for _ in range(2):
        log = MemoryLog()
        await episode(log, runner, ScriptedAnswers())
        heads.append(log.head())
    assert heads[0] == heads[1]


async def test_what_every_attempt_used_is_beside_its_verdict(log, runner):
    await episode(log, runner, ScriptedAnswers())
    used = {}
    for event in log.read():
        used |= {int(version): measures for version, measures in event.observed.get("used", {}).items()}
    tasks = {event.version: event.fact.task for event in log.read(kinds={"attempts_made"})}
    verified = {event.fact.of: event.fact for event in log.read(kinds={"attempts_verified"})}
    assert used.keys() == verified.keys()
    for version, fact in verified.items():
        assert used[version].keys() == {"seconds", "cpu_seconds", "peak_mb"}
        for name, least in (("seconds", 0), ("cpu_seconds", 0), ("peak_mb", 1)):
            measured = used[version][name]
            assert len(measured) == len(fact.verdicts)
            ran = [verdict.outcome != "malformed" and tasks[version] != "deduction" for verdict in fact.verdicts]
            assert all((value is not None and value > least) == was for value, was in zip(measured, ran, strict=True))


class Tripwire:
    """A log that fails at its n-th append, before anything is stored: what a crash looks like from inside."""

    def __init__(self, log, fails_at):
        self.log, self.left = log, fails_at

    def __getattr__(self, name):
        return getattr(self.log, name)

    def append(self, *args, **kwargs):
        return self.submit(*args, **kwargs).result()

    def submit(self, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise SandboxError("The power is gone.")
        return self.log.submit(*args, **kwargs)


async def test_an_episode_broken_off_anywhere_ends_as_if_it_had_not_been(runner):
    whole = MemoryLog()
    counter = Tripwire(whole, 1000)
    await episode(counter, runner, ScriptedAnswers())
    for crash in range(1, 1000 - counter.left):
        log, script = MemoryLog(), ScriptedAnswers()
        with pytest.raises(SandboxError):
            await episode(Tripwire(log, crash), runner, script)
        await episode(log, runner, script)
        assert facts(log) == facts(whole), f"crash before append {crash}"


async def test_a_played_episode_started_over_asks_nobody(log, runner):
    final = await episode(log, runner, ScriptedAnswers())
    head, (opening, *_) = log.head(), log.read("episode/00001/000")
    state = fold_episode(EpisodeState(stream=opening.stream), [opening])
    nobody = replace(
        node_context(log, runner, Lockstep(), ScriptedAnswers(), PlaySettings()), teacher=None, solver=None, verifier=None
    )
    assert (await build(PlaySettings(), EpisodePlan()).ainvoke({"episode": state}, context=nobody))["episode"] == final
    assert log.head() == head


def test_a_closed_goalpost_ends_its_episode():
    state = EpisodeState(stream="s", version=4, attempted=True, gap=0.0)
    assert successor(state, PlaySettings(), EpisodePlan()) == "__end__"
    assert end_reason(state, 0.9, EpisodePlan()) == "goalpost_solved"
