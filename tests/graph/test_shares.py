"""Several players on one log, with a scripted model: equal facts for any number of them, whatever happens to them."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from events.facts.errors import BadInput
from events.facts.types import EpisodeFailed, IterationFinished, PolicyProbed, PolicyUpdated, RunStarted
from events.process.activity import Activity
from events.projections.run_summary import RunSummary, fold
from events.stores import open_log
from events.stores.claims import PostgresClaims
from events.stores.postgres_location import PostgresLocation
from graph.play import shares
from graph.play.player import Player
from graph.play.player_log import PlayerLog
from graph.play.shares import Share, ShareBoard, SharePlayer
from graph.settings.config import Config
from tests.graph.test_loop import make_play
from tests.graph.test_play import GOALPOST, INPUTS, RIGHT, WRONG, proposal, python
from trainer.data.replay import iteration_rollouts, policy_cursor

pytestmark = [pytest.mark.docker, pytest.mark.slow]

RUNS = itertools.count()
GOALPOSTS = tuple(GOALPOST.model_copy(update={"statement": f"{GOALPOST.statement} ({number})"}) for number in range(4))
SETTINGS = {
    "play": {
        "iterations": 2, "episodes": 4, "practice": 1, "practice_attempts": 2, "attempts": 4, "gap_attempts": 2,
        "max_attempts": 2, "shares": 3,
    },
    "evaluate": {"questions": 4, "attempts": 2},
}  # fmt: skip
ZERO = "0" * 64


def answer(prompt: str, seed: int, index: int) -> str:
    """Depends on its arguments alone, hence not on who asks when."""
    if "easier" in prompt:
        return proposal("sort", RIGHT["sort"], INPUTS) if seed % 3 else "no blocks at all"
    if "harder" in prompt:
        return proposal("sort and double", RIGHT["sort and double"])
    if "find an input" in prompt:
        return "```input\n[1, 2, 3]\n```"
    if "what does it return" in prompt:
        return "```output\n[1]\n```"
    return python(RIGHT["sort"] if (seed + index) % 2 else WRONG)


class ProbingLearner:
    """Learns nothing at once, and appends its updates and its probe, as the trainer does."""

    def __init__(self, log):
        self.log = log

    async def wait_for_update(self, policy, iteration):
        if not any(getattr(event.fact, "iteration", 0) == iteration for event in self.log.read(f"policy/{policy}")):
            same = {"parent": ZERO, "digest": ZERO, "after": 0, "until": 0, "samples": "", "step": 0, "steps": ()}
            self.log.append(f"policy/{policy}", [PolicyUpdated(policy=policy, iteration=iteration, **same)])
        return ZERO

    async def wait_for_probe(self, policy, digest):
        probe = PolicyProbed(digest=digest, tokens=(1, 2, 3), logprobs=(-0.5, -0.5))
        self.log.append(f"policy/{policy}", [probe], key="probe")
        return probe


class NoClaims:
    """Lets everybody play everything."""

    def take(self, *names):
        return names[0] if names else None

    def release(self, name): ...

    def close(self): ...


class Table:
    """A run in PostgreSQL, and the players that play it in this process, each with connections of its own."""

    def __init__(self, postgres: str, runner, tmp_path) -> None:
        self.url = f"{postgres}?run=shares{next(RUNS)}"
        self.location = PostgresLocation.parse(self.url)
        self._runner, self._folder, self._stack = runner, tmp_path, ExitStack()
        self.log = self._open(create=True)
        start = RunStarted(
            config=Config(**SETTINGS).model_dump(mode="json"), versions={}, commit="", inputs={},
            policies={"teacher": ZERO, "student": ZERO},
        )  # fmt: skip
        self.log.append("run", [start])

    def _open(self, **options):
        return self._stack.enter_context(closing(open_log(self.url, **options)))

    def player(self, name, *, script=answer, claims=None, patience_s=600.0):
        log = PlayerLog(self._open(), name)
        claims = claims or self._stack.enter_context(closing(PostgresClaims(self.location)))
        play = make_play(log, self._runner, script, self._folder, GOALPOSTS, **SETTINGS)
        share_player = SharePlayer(log, claims, play.scheduler.activity, patience_s)
        return replace(play, share_player=share_player, weights=replace(play.weights, trainer=ProbingLearner(log)))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def outcome(self):
        """What does not depend on who played: the last hash of every stream, what is learned from, and evaluations."""
        events = list(self.log.read())
        assert self.log.verify() is None
        hashes = {event.stream: (event.version, event.hash) for event in events if event.stream.startswith("e")}
        start, cursor, samples = events[0].fact, None, []
        for event in events:
            if isinstance(event.fact, IterationFinished):
                cursor = cursor or policy_cursor(self.log, "shared", start)
                cursor = replace(cursor, until=0 if not samples else samples[-1][0])
                samples.append((event.position, iteration_rollouts(self.log, cursor, event).digest))
        return hashes, [digest for _, digest in samples]

    def repeats(self) -> list[int]:
        facts = [event.fact for event in self.log.read("run", kinds=("iteration_finished",))]
        return [fact.cross_share_repeats for fact in facts]

    def players(self) -> set[str]:
        return {event.observed["player"] for event in self.log.read() if "player" in event.observed}


async def play_together(coordinator, *players) -> None:
    await asyncio.gather(coordinator.run(), *(Player(player).run() for player in players))


@pytest.fixture
def table(postgres, runner, tmp_path):
    with Table(postgres, runner, tmp_path) as table:
        yield table


@pytest.fixture(scope="module")
def alone(postgres, runner, tmp_path_factory):
    """What one player records."""
    with Table(postgres, runner, tmp_path_factory.mktemp("alone")) as table:
        asyncio.run(play_together(table.player("one")))
        # Shares know nothing of each other, so that several have the same question accepted.
        assert sum(table.repeats()) > 0
        return table.outcome()


@pytest.mark.parametrize("count", [2, 4])
async def test_any_number_of_players_records_the_same_facts(alone, table, count):
    await play_together(*(table.player(f"player {number}") for number in range(count)))
    assert table.outcome() == alone
    assert len(table.players()) > 1
    assert fold(RunSummary(), table.log.read()).finished


async def test_players_without_claims_record_everything_once(alone, table):
    await play_together(*(table.player(f"player {number}", claims=NoClaims()) for number in range(3)))
    assert table.outcome() == alone


async def test_a_player_that_stops_is_replaced_and_leaves_when_it_wakes(alone, table):
    """It stops between a model's answer and its append, and wakes when the run is over."""
    over, sleeper, asleep = asyncio.Event(), table.player("sleeper"), asyncio.Event()
    generate = sleeper.context.solver.model.generate

    async def sleep_first(requests):
        replies = await generate(requests)
        asleep.set()
        await over.wait()
        return replies

    sleeper.context.solver.model.generate = sleep_first
    stopped = asyncio.create_task(Player(sleeper).run())
    coordinator = table.player("coordinator", patience_s=0.3)

    async def coordinate():
        await coordinator.run()
        over.set()

    with pytest.MonkeyPatch.context() as patch:
        # The sleeper gets the first share of the first iteration, since the coordinator waits until it sleeps.
        patch.setattr(coordinator.share_player, "play_all", _after(asleep, coordinator.share_player.play_all))
        await asyncio.gather(coordinate(), stopped)
    assert table.outcome() == alone
    assert any("has appended nothing" in warning for warning in coordinator.scheduler.activity.warnings)


async def test_the_patience_with_a_share_begins_when_another_claims_it(log, monkeypatch):
    later = 0.0
    monkeypatch.setattr(shares, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later))
    monkeypatch.setattr(shares, "POLL_S", 0.001)

    class OthersHaveTheSecond(NoClaims):
        def take(self, *names):
            return None if names == ("second",) else super().take(*names)

    def end(stream):
        log.append(stream, [EpisodeFailed(error="ModelError", message="")])

    async def play_longer_than_the_patience():
        nonlocal later
        later += 100
        end("episode/00001/000")
        asyncio.get_running_loop().call_later(0.05, end, "episode/00001/001")

    async def play_second():
        raise AssertionError("it was claimed a moment ago")

    board = ShareBoard(log, [
        Share("first", {"episode/00001/000": 1}, play_longer_than_the_patience),
        Share("second", {"episode/00001/001": 1}, play_second),
    ])  # fmt: skip
    activity = Activity()
    await SharePlayer(log, OthersHaveTheSecond(), activity, patience_s=50).play_all(board)
    assert activity.warnings == []


def _after(event, play_all):
    async def wait_and_play(board):
        if next(iter(board.open()), "").endswith("iteration 1"):
            await event.wait()
        await play_all(board)

    return wait_and_play


async def test_a_share_that_kills_its_players_fails_and_the_others_go_on(table, monkeypatch):
    monkeypatch.setattr(shares, "RETAKE_S", 60)
    claim, coordinator = "share 2 of iteration 1", table.player("coordinator")
    take, noticed, freed = coordinator.share_player.claims.take, asyncio.Event(), asyncio.Event()

    def take_and_tell(*names):
        taken = take(*names)
        if names == (claim,):
            (noticed if taken is None else freed).set()
        return taken

    coordinator.share_player.claims.take = take_and_tell

    async def die(victim):
        with closing(victim):
            await noticed.wait()
        freed.clear()
        await freed.wait()

    async def die_in_turn(victim):
        for _ in range(shares.MOST_DEATHS - 1):
            await die(victim)
            victim = PostgresClaims(table.location)
            assert victim.take(claim)
            noticed.clear()
        await die(victim)

    first = PostgresClaims(table.location)
    assert first.take(claim)
    await asyncio.gather(play_together(coordinator), die_in_turn(first))
    failed = [event for event in table.log.read() if isinstance(event.fact, EpisodeFailed)]
    assert [(event.stream, event.fact.error) for event in failed] == [("episode/00001/002", "PlayerLost")]
    assert [event.fact.failed for event in table.log.read(kinds=("iteration_finished",))] == [1, 0]


async def test_players_wait_for_a_database_that_restarts(alone, own_postgres, runner, tmp_path):
    calls = itertools.count()

    def restart(prompt, seed, index):
        if next(calls) == 30:
            own_postgres.stop("immediate")
            own_postgres.start()
        return answer(prompt, seed, index)

    with Table(own_postgres.url, runner, tmp_path) as table:
        await play_together(table.player("coordinator", script=restart), table.player("other"))
        assert next(calls) > 30
        assert table.outcome() == alone


def test_a_log_in_memory_has_no_claims(log):
    from events.stores.claims import open_claims

    with pytest.raises(BadInput, match="A log in memory has one player"):
        open_claims(log)
