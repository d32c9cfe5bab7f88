"""What every log must do, whatever stores it. A test module makes a class of its own from this one and gives `make`.

One behaviour a test, only through the contract of `events.facts.log.Log`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.facts.errors import Conflict, LogCorrupt, LogError
from events.facts.fact import Fact
from events.facts.log import Head, Log, first_event
from events.facts.types import EpisodeFailed, GoalpostAdded, IterationStarted, RunFinished, RunStarted
from events.facts.values import BlobHash
from tests.support.example_runs import example_run
from tests.support.fact_strategies import facts

MakeLog = Callable[..., Log]


def episode_failed(message: str = "m") -> EpisodeFailed:
    return EpisodeFailed(error="SandboxError", message=message)


class LogContract:
    """Subclasses give a fixture `make`: called with `clock=` or without, it returns a new, empty log."""

    @pytest.fixture
    def log(self, make: MakeLog) -> Log:
        return make()

    def test_a_new_log_is_empty_and_sound(self, log: Log) -> None:
        assert (log.head(), list(log.read()), log.version("run")) == (Head(0, "0" * 64), [], 0)
        assert log.verify() is None

    def test_an_append_returns_what_is_read_later(self, log: Log) -> None:
        appended = log.append("run", [episode_failed("a"), episode_failed("b")], observed={"seconds": 1.5})
        assert list(log.read()) == appended
        assert [event.observed for event in appended] == [{"seconds": 1.5}, {}]

    def test_versions_count_per_stream_and_positions_over_all(self, log: Log) -> None:
        for stream in ("a", "b", "a", "a", "b"):
            log.append(stream, [episode_failed()])
        places = [(event.position, event.stream, event.version) for event in log.read()]
        assert places == [(1, "a", 1), (2, "b", 1), (3, "a", 2), (4, "a", 3), (5, "b", 2)]
        assert (log.version("a"), log.version("b"), log.version("c")) == (3, 2, 0)

    def test_an_event_is_found_by_its_version_and_the_first_of_a_kind_without_a_scan_by_hand(self, log: Log) -> None:
        log.append("a", [episode_failed("1")])
        log.append("b", [episode_failed("2"), RunFinished(iterations=1), RunFinished(iterations=2)])
        assert log.event("b", 2) == list(log.read("b"))[1]
        assert (log.event("b", 4), log.event("c", 1), log.event("a", 0)) == (None, None, None)
        assert first_event(log, "b", "run_finished") == log.event("b", 2)
        assert first_event(log, "b") == log.event("b", 1)
        assert first_event(log, "a", "run_finished") is None

    def test_an_append_on_an_older_version_is_a_conflict_and_changes_nothing(self, log: Log) -> None:
        log.append("run", [episode_failed()], expected=0)
        before = log.head()
        for expected in (0, 2):
            with pytest.raises(Conflict, match=rf"'run' is at version 1, not at {expected}; .*retry"):
                log.append("run", [episode_failed()], expected=expected)
        assert log.head() == before
        assert len(log.append("run", [episode_failed()], expected=1)) == 1

    def test_a_batch_with_an_unwritable_fact_is_not_appended_at_all(self, log: Log) -> None:
        number = RunStarted(config={"rate": float("nan")}, versions={}, commit="unknown", policies={})
        for bad in (number, episode_failed("half of a pair: \ud800")):
            with pytest.raises(LogError, match=r"cannot be written as JSON .*; give it"):
                log.append("run", [episode_failed(), bad, episode_failed()])
        assert log.head().position == 0
        assert list(log.read()) == []

    def test_an_empty_batch_still_checks_the_version_and_keeps_the_blobs(self, log: Log) -> None:
        blob = log.put(b"kept")
        assert log.append("run", [], expected=0) == []
        with pytest.raises(Conflict):
            log.append("run", [], expected=1)
        assert log.get(blob) == b"kept"
        assert log.head().position == 0

    def test_causation_is_kept(self, log: Log) -> None:
        log.append("run", [episode_failed()])
        assert log.append("run", [episode_failed()], causation=1)[0].causation == 1
        assert [event.causation for event in log.read()] == [None, 1]

    def test_an_append_repeated_under_its_key_does_nothing_and_returns_what_was_recorded(self, log: Log) -> None:
        appended = log.append(
            "run", [episode_failed("a"), episode_failed("b")], expected=0, key="1/solver/0", observed={"seconds": 1.5}
        )
        log.append("run", [episode_failed("later")], expected=2)
        before = log.head()
        for batch, expected in (
            ([episode_failed("a"), episode_failed("b")], 0),
            ([episode_failed("another answer")], 7),
            ([], None),
        ):
            assert log.append("run", batch, expected=expected, key="1/solver/0") == appended
        assert log.head() == before
        assert log.recorded("run", "1/solver/0") == appended

    def test_a_key_counts_within_its_stream(self, log: Log) -> None:
        log.append("a", [episode_failed("1")], key="k")
        assert log.recorded("b", "k") is None
        assert log.recorded("a", "l") is None
        assert [event.position for event in log.append("b", [episode_failed("2")], key="k")] == [2]
        assert [event.position for event in log.append("a", [episode_failed("3")], key="l")] == [3]
        assert [event.fact.message for event in log.recorded("a", "k") or []] == ["1"]

    def test_a_key_of_a_failed_append_is_free(self, log: Log) -> None:
        with pytest.raises(Conflict):
            log.append("run", [episode_failed("a")], expected=1, key="k")
        with pytest.raises(LogError):
            log.append("run", [episode_failed("\ud800")], key="k")
        assert log.recorded("run", "k") is None
        appended = log.append("run", [episode_failed("b")], key="k")
        assert log.recorded("run", "k") == appended

    def test_an_empty_append_holds_its_key_too(self, log: Log) -> None:
        assert log.append("run", [], key="nothing to say") == []
        assert log.append("run", [episode_failed()], key="nothing to say") == []
        assert log.recorded("run", "nothing to say") == []
        assert log.head().position == 0
        assert log.verify() is None

    def test_keys_are_no_part_of_the_head(self, make: MakeLog) -> None:
        with_key, without = make(), make()
        with_key.append("run", [episode_failed()], key="k")
        without.append("run", [episode_failed()])
        assert with_key.head() == without.head()

    def test_a_repeated_append_still_makes_staged_blobs_durable(self, log: Log) -> None:
        log.append("run", [episode_failed()], key="k")
        blob = log.put(b"late")
        log.append("run", [episode_failed()], key="k")
        log.append("goalposts", [GoalpostAdded(question="q", blob=blob, source="s")])
        assert log.get(blob) == b"late"
        assert log.verify() is None

    @pytest.mark.parametrize("name", ["", "a\0b", "half \ud800"])
    def test_names_that_are_no_text_are_refused(self, log: Log, name: str) -> None:
        with pytest.raises(LogError, match="cannot name a stream or a key; give"):
            log.append(name, [episode_failed()])
        with pytest.raises(LogError, match="cannot name a stream or a key; give"):
            log.append("run", [episode_failed()], key=name)
        assert log.head().position == 0

    def test_threads_that_race_for_a_key_all_get_the_events_of_one(self, log: Log) -> None:
        messages: list[list[int]] = []

        def work(name: str) -> None:
            for number in range(20):
                events = log.append("shared", [episode_failed(name), episode_failed(name)], key=str(number))
                messages.append([number, *(event.position for event in events), len({event.fact.message for event in events})])

        threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(messages) == 80
        assert len({tuple(result) for result in messages}) == 20
        assert all(kinds == 1 for *_, kinds in messages)
        assert log.head().position == 40

    async def test_coroutines_submit_at_once_and_each_has_an_outcome_of_its_own(self, log: Log) -> None:
        wants = [("a", 0, "1"), ("a", 0, "2"), ("b", None, "3"), ("b", None, "\ud800"), ("a", 1, "4"), ("b", 1, "5")]
        submitted = [log.submit(stream, [episode_failed(text)], expected=expected) for stream, expected, text in wants]
        appended = await asyncio.gather(*map(asyncio.wrap_future, submitted), return_exceptions=True)
        places = [(result[0].stream, result[0].version) if isinstance(result, list) else type(result) for result in appended]
        assert places == [("a", 1), Conflict, ("b", 1), LogError, ("a", 2), ("b", 2)]
        assert [event.fact.message for event in log.read()] == ["1", "3", "4", "5"]
        assert log.verify() is None

    def test_a_mistake_of_the_caller_is_the_callers_own(self, log: Log) -> None:
        good, bad = log.submit("a", [episode_failed()]), log.submit("a", [episode_failed()], observed={"at": object()})
        with pytest.raises(TypeError):
            bad.result(10)
        assert log.submit("a", [episode_failed()]).result(10)[0].version == 2
        assert good.result(10)[0].version == 1

    def test_reading_filters_by_stream_position_kind_and_limit(self, log: Log) -> None:
        # More than two chunks of any store; stream `a` holds positions 1, 2, 5, 6, 9 ...
        for number in range(600):
            log.append("ab"[number % 2], [episode_failed(str(number)), RunFinished(iterations=number)])
        assert [event.position for event in log.read(after=1198)] == [1199, 1200]
        assert [event.position for event in log.read("a", after=9, limit=3)] == [10, 13, 14]
        assert [event.version for event in log.read("a")] == list(range(1, 601))
        assert [event.fact.kind for event in log.read("b", kinds=("run_finished",))] == ["run_finished"] * 300
        assert [event.position for event in log.read(kinds=["run_finished"], limit=550)] == list(range(2, 1101, 2))
        assert list(log.read(limit=0)) == []
        assert list(log.read(kinds=())) == []

    def test_reading_ends_where_the_log_ended_when_it_began(self, log: Log) -> None:
        log.append("run", [episode_failed(), episode_failed()])
        for _ in log.read():
            log.append("run", [episode_failed()])
        assert log.head().position == 4

    def test_equal_facts_give_equal_heads_at_any_time_and_with_any_measures(self, make: MakeLog) -> None:
        clocks = [lambda: datetime(2020, 1, 1, tzinfo=UTC), lambda: datetime(2030, 1, 1, tzinfo=UTC)]
        heads = set()
        for clock in clocks:
            log = make(clock=clock)
            log.append("run", [episode_failed("a")], observed={"at": clock().isoformat()})
            example_run(log).run().goalpost().play()
            heads.add(log.head())
        assert len(heads) == 1

    def test_heads_tell_apart_stream_order_fact_and_cause(self, make: MakeLog) -> None:
        def head(*appends: tuple[str, str, int | None]) -> str:
            log = make()
            for stream, message, cause in appends:
                log.append(stream, [episode_failed(message)], causation=cause)
            return log.head().digest

        base = (("a", "1", None), ("b", "2", None), ("a", "3", None))
        variants = {
            head(*base),
            head(base[1], base[0], base[2]),
            head(base[0], ("c", "2", None), base[2]),
            head(base[0], base[1], ("a", "4", None)),
            head(base[0], base[1], ("a", "3", 1)),
            head(*base[:2]),
        }
        assert len(variants) == 6

    def test_blobs_are_named_by_content_and_come_back(self, log: Log) -> None:
        blob = log.put(b"text" * 1000)
        assert log.put(b"text" * 1000) == blob
        assert log.get(blob) == b"text" * 1000
        log.append("goalposts", [GoalpostAdded(question="q", blob=blob, source="s")])
        assert log.get(blob) == b"text" * 1000
        assert log.put(b"text" * 1000) == blob
        log.append("goalposts", [GoalpostAdded(question="q", blob=blob, source="s")])
        assert log.verify() is None

    def test_blobs_stay_staged_over_a_conflict(self, log: Log) -> None:
        blob = log.put(b"x")
        with pytest.raises(Conflict):
            log.append("run", [episode_failed()], expected=7)
        log.append("run", [episode_failed()], expected=0)
        assert log.get(blob) == b"x"

    def test_many_blobs_come_back_at_once_staged_or_not(self, log: Log) -> None:
        contents = {log.put(text): text for number in range(600) if (text := str(number).encode())}
        log.append("run", [episode_failed()])
        contents |= {log.put(text): text for text in (b"", b"staged")}
        assert log.get_many(contents) == contents
        assert log.get_many([]) == {}

    def test_an_unknown_blob_is_an_error(self, log: Log) -> None:
        for read in (log.get, lambda blob: log.get_many([log.put(b"x"), blob])):
            with pytest.raises(LogCorrupt, match=r"Blob f{64} is missing; .*verify"):
                read(BlobHash("f" * 64))

    def test_verify_names_the_event_whose_blob_is_missing(self, log: Log) -> None:
        log.append("run", [episode_failed()])
        log.append("goalposts", [GoalpostAdded(question="q", blob=BlobHash("f" * 64), source="s")])
        log.append("run", [episode_failed()])
        broken = log.verify()
        assert broken is not None
        assert broken.position == 2
        assert "missing" in broken.problem

    def test_verify_tells_how_far_it_is(self, log: Log) -> None:
        log.append("run", [episode_failed()] * 1200)
        messages: list[tuple[int, int]] = []
        assert log.verify(lambda done, total: messages.append((done, total))) is None
        assert messages == [(500, 1200), (1000, 1200), (1200, 1200)]

    def test_a_whole_run_reads_back_and_verifies(self, log: Log) -> None:
        example_run(log).run().goalpost(2).evaluate().play().update().start(2).episode(lemma=None).fail().finish().end()
        assert log.verify() is None
        assert [event.position for event in log.read()] == list(range(1, log.head().position + 1))

    def test_threads_may_share_a_log(self, log: Log) -> None:
        def work(name: str) -> None:
            for number in range(40):
                blob = log.put(f"{name} {number}".encode())
                log.append("shared", [GoalpostAdded(question="q", blob=blob, source=name)])

        threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [event.version for event in log.read("shared")] == list(range(1, 161))
        assert log.verify() is None

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(batch=st.lists(facts(), min_size=1, max_size=4))
    def test_any_fact_comes_back_equal(self, log: Log, batch: list[Fact]) -> None:
        appended = log.append("any", batch)
        again = list(log.read("any", after=appended[0].position - 1))
        assert [event.fact for event in appended] == batch
        assert again == appended

    def test_a_policy_mapping_keeps_its_roles(self, log: Log) -> None:
        fact = IterationStarted(iteration=1, policies={"student": "s", "teacher": "t"}, episodes=2)
        assert log.append("run", [fact])[0].fact == fact
