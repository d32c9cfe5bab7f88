"""The log in memory keeps the contract."""

import pytest

from events.stores.memory import MemoryLog
from tests.support.log_contract import LogContract, MakeLog, episode_failed


class TestMemoryLog(LogContract):
    @pytest.fixture
    def make(self) -> MakeLog:
        return MemoryLog


def test_values_changed_after_the_append_do_not_change_the_log() -> None:
    log, observed = MemoryLog(), {"seconds": 1}
    log.append("run", [episode_failed()], observed=observed)
    observed["seconds"] = 2
    assert next(log.read()).observed == {"seconds": 1}
