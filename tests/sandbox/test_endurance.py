"""A thousand programs leave the sandbox as they found it."""

import asyncio

import psutil
import pytest

from sandbox.host.docker_runner import DockerRunner
from sandbox.host.worker import Worker
from tests.support.sandbox_process import LIMITS, is_expected, job

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
def servers(monkeypatch):
    """What the servers say about themselves after every job, by container: size in MiB and lowest free descriptor."""
    reports: dict[str, list[tuple[float, int]]] = {}
    unfit_reason = Worker._unfit_reason

    def noted(self, reply):
        reports.setdefault(self.id, []).append(tuple(reply["server"]))
        return unfit_reason(self, reply)

    monkeypatch.setattr(Worker, "_unfit_reason", noted)
    return reports


async def test_a_thousand_programs_in_one_go_leave_host_and_workers_as_they_were(servers):
    runner = DockerRunner(LIMITS, workers=2, run="tests-endurance")
    host = psutil.Process()
    try:
        await runner.run([job(number) for number in range(100)])
        memory, descriptors = host.memory_info().rss, host.num_fds()
        running = asyncio.create_task(runner.run([job(number) for number in range(1_000)]))
        seen = []
        while not running.done():
            seen.append((host.memory_info().rss, host.num_fds()))
            await asyncio.wait([running], timeout=0.2)
        executions = running.result()
    finally:
        await runner.close()
    assert [(number, execution) for number, execution in enumerate(executions) if not is_expected(number, execution)] == []
    # The results themselves are in it: about three KiB each.
    assert max(rss for rss, _ in seen) - memory < 16 << 20
    # Whatever earlier tests left to the garbage collector may go meanwhile; nothing may come.
    assert max(count for _, count in seen) <= descriptors
    assert len(servers) == 2, "a worker was replaced"
    for reports in servers.values():
        assert max(size for size, _ in reports) - reports[0][0] < 1
        assert {free for _, free in reports} == {reports[0][1]}
