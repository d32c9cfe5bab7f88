"""Recorded verdicts are reached again under the recorded conditions, and every one that was not true is found."""

import json

import pytest

from events.facts.label_facts import LabelVoted
from events.facts.types import AttemptsMade, AttemptsVerified, GoalpostAdded
from events.facts.values import Digest, Generation, IOPair, Question, Sampling, Verdict
from events.stores import open_log
from roles.generation_record import put_question
from roles.verifier import Verifier
from tests.support.processes import run_command

pytestmark = pytest.mark.docker

SQUARES = Question(
    statement="Square every number.",
    program="def f(x):\n    return [v * v for v in x]",
    private=(IOPair(input="[3]", output="[9]"), IOPair(input="[1, 2]", output="[1, 4]")),
)
ANSWERS = {
    "induction": [
        "```python\ndef f(x):\n    return [v * v for v in x]\n```",
        "```python\ndef f(x):\n    return [v * 3 for v in x]\n```",
        "```python\ndef f(x):\n    while True: pass\n```",
        "no program",
        "```python\ndef f(x):\n    return tuple(v * v for v in x)\n```",
    ],
    "deduction": ["```output\n[9]\n```", "```output\n[8]\n```"],
    "abduction": ["```input\n[-3]\n```", "```input\n[4]\n```"],
}


def passed(total):
    return Verdict(outcome="passed", passed=total, total=total)


async def record(path, runner, *, planted=(), rules="own", per_test=False, hangs=False, **conditions):
    """A log with one judgement a task; `planted` names attempts that are recorded as passed, whatever they were.

    Only with `hangs` does the third program really take for ever, which costs every judgement its whole time limit.
    """
    verifier = Verifier(runner, pairs=2, public_pairs=0, rules=rules, per_test=per_test)
    log = open_log(path, create=True)
    log.append("goalposts", [GoalpostAdded(question=SQUARES.id, blob=put_question(log, SQUARES), source="test")])
    for task, answers in ANSWERS.items():
        texts = answers if hangs else [text.replace("while True: pass", "return None") for text in answers]
        pair = None if task == "induction" else 0
        verdicts = (await verifier.judge(SQUARES, task, pair, texts)).verdicts
        recorded = [passed(verdict.total) if (task, number) in planted else verdict for number, verdict in enumerate(verdicts)]
        blob = log.put(json.dumps(texts).encode())
        generation = Generation(
            policy=Digest("0" * 64), template="t", prompt=blob, texts=blob, tokens=blob,
            count=len(texts), length=1, seed=0, sampling=Sampling(),
        )  # fmt: skip
        made = AttemptsMade(purpose="solve", question=SQUARES.id, task=task, pair=pair, generation=generation)
        provenance = verifier.provenance_of(SQUARES).model_copy(update=conditions)
        log.append(f"episode/{task}", [made, AttemptsVerified(of=1, verdicts=tuple(recorded), provenance=provenance)])
    head = log.head()
    log.close()
    return head


def reverify(path, *options):
    done = run_command("roles", "reverify", path, *options)
    assert "Traceback" not in done.stderr, done.stderr
    return done


async def test_an_honest_run_has_no_flips_and_is_not_written_to(tmp_path, runner):
    path = tmp_path / "log.sqlite"
    head = await record(path, runner)
    done = reverify(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 flips among 9 verdicts of 3 judgements\n", "")
    log = open_log(path)
    assert (log.head(), log.verify()) == (head, None)
    log.close()


async def test_the_recorded_rules_are_followed(tmp_path, runner):
    await record(tmp_path / "log.sqlite", runner, rules="livecodebench", per_test=True)
    done = reverify(tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 flips among 9 verdicts of 3 judgements\n")
    log = open_log(tmp_path / "log.sqlite")
    (programs, *_) = (event.fact.verdicts for event in log.read(kinds={"attempts_verified"}))
    log.close()
    assert [verdict.outcome for verdict in programs][4] == "passed", "a tuple is a list by these rules, and by no others"


async def test_every_planted_flip_is_reported_with_its_place(tmp_path, runner):
    path = tmp_path / "log.sqlite"
    planted = {("induction", 1), ("induction", 2), ("deduction", 1), ("abduction", 1)}
    await record(path, runner, planted=planted, hangs=True)
    done = reverify(path, "--json")
    assert done.returncode == 1, done.stderr
    *flips, counts = map(json.loads, done.stdout.splitlines())
    assert {(flip["stream"], flip["attempt"]) for flip in flips} == {(f"episode/{task}", n) for task, n in planted}
    assert all(flip["old"]["outcome"] == "passed" and flip["question"] == SQUARES.id for flip in flips)
    assert [flip["new"]["outcome"] for flip in flips][:2] == ["wrong_answer", "time_limit"]
    assert [flip["position"] for flip in flips] == [3, 3, 5, 7]
    assert counts == {"judgements": 3, "verdicts": 9, "flips": 4, "unknown": 0}


async def test_the_whole_generation_votes_again(tmp_path, runner):
    verifier, texts = Verifier(runner, pairs=2, public_pairs=0), ANSWERS["induction"][:2] + ANSWERS["induction"][:1]
    log = open_log(tmp_path / "log.sqlite", create=True)
    log.append("goalposts", [GoalpostAdded(question=SQUARES.id, blob=put_question(log, SQUARES), source="test")])
    verdicts = (await verifier.judge_by_label(SQUARES, texts, "vote")).judged.verdicts
    outcomes = [verdict.outcome for verdict in verdicts]
    assert outcomes == ["passed", "wrong_answer", "passed"]
    blob = log.put(json.dumps(texts).encode())
    for stream, recorded in (("episode/honest", verdicts), ("episode/planted", [*verdicts[:1], passed(2), verdicts[2]])):
        generation = Generation(
            policy=Digest("0" * 64), template="t", prompt=blob, texts=blob, tokens=blob,
            count=3, length=1, seed=0, sampling=Sampling(),
        )  # fmt: skip
        made = AttemptsMade(purpose="pass_rate", question=SQUARES.id, task="induction", generation=generation)
        voted = LabelVoted(of=1, seat="open", question=SQUARES.id, attempts=3, voters=3, votes=2, runner_up=1)
        provenance = verifier.provenance_of(SQUARES, "vote")
        log.append(stream, [made, AttemptsVerified(of=1, verdicts=tuple(recorded), provenance=provenance), voted])
    # Where others voted with a document, their label decides: none of these answers has its outputs.
    labels = [log.put(json.dumps(outputs).encode()) for outputs in (["[]", "[]"], [pair.output for pair in SQUARES.pairs])]
    provenance = verifier.provenance_of(SQUARES, "informed")
    for stream, label, expected in zip(
        ("episode/other", "episode/same"), labels, (["wrong_answer"] * 3, outcomes), strict=True
    ):
        informed = voted.model_copy(update={"informed": True, "label": label})
        judged = await verifier.judge_by_label(SQUARES, texts, "informed", label=tuple(json.loads(log.get(label))))
        assert [verdict.outcome for verdict in judged.judged.verdicts] == expected
        verified = AttemptsVerified(of=1, verdicts=tuple(judged.judged.verdicts), provenance=provenance)
        log.append(stream, [made, verified, informed, voted.model_copy(update={"informed": False})])
    log.close()
    done = reverify(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "episode/planted" in done.stdout
    assert "1 flips among 12 verdicts of 4 judgements" in done.stdout


async def test_a_sample_is_drawn_by_its_seed(tmp_path, runner):
    path = tmp_path / "log.sqlite"
    await record(path, runner)
    counts = json.loads(reverify(path, "--json", "--sample", "2", "--seed", "5").stdout)
    assert counts["judgements"] == 2
    assert reverify(path, "--json", "--sample", "2", "--seed", "5").stdout == json.dumps(counts) + "\n"


async def test_another_image_than_the_recorded_one_is_told(tmp_path, runner):
    await record(tmp_path / "log.sqlite", runner, planted={("induction", 1)}, image="sha256:" + "0" * 64)
    done = reverify(tmp_path)
    assert done.returncode == 1
    assert "attempt 1  passed 2/2 → wrong_answer 1/2" in done.stdout
    assert "1 flips among 9 verdicts" in done.stdout
    assert "not with the recorded image sha256:000000000000" in done.stderr


async def test_limits_that_this_version_does_not_know_are_an_error(tmp_path, runner):
    await record(tmp_path / "log.sqlite", runner, limits={"moons": 3.0})
    done = reverify(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'moons'" in done.stderr


async def test_the_recorded_limits_are_in_force(tmp_path, runner):
    limits = runner.provenance.limits
    await record(tmp_path / "log.sqlite", runner, limits={**limits, "wall_seconds": 1e-6})
    done = reverify(tmp_path, "--json")
    assert done.returncode == 1, done.stderr
    assert done.stdout, done.stderr
    *flips, _ = map(json.loads, done.stdout.splitlines())
    assert {flip["new"]["outcome"] for flip in flips} == {"time_limit"}
