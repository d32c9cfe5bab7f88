"""Runs test files side by side, in processes that are forked when one process has imported and collected all tests.

    pytest --processes N

A file is run by one process, so that it makes its runs and servers once; files are dealt in the order of their collection. A
process that dies fails the test that it ran, and another goes on behind that test.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import NoReturn

import pytest
from _pytest.runner import CallInfo

from events.process.startup import die_with_parent
from tests.support.forked_commands import fork_server, import_libraries


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processes", type=int, default=1, metavar="N", help="run test files side by side in N processes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if session.config.option.collectonly or session.testsfailed:
        return None
    if session.config.option.processes < 2:
        fork_server()
        return None
    import_libraries()
    TestDealer(session).run(session.config.option.processes)
    return True


@dataclass
class TestProcess:
    """A process that runs tests."""

    pid: int
    waiting: list[pytest.Item] = field(default_factory=list)
    """What it has not begun of its file."""
    running: pytest.Item | None = None


class TestDealer:
    """Deals files to processes, and reports what they report."""

    __test__ = False

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._hook = session.config.hook
        self._files = [list(items) for _, items in groupby(session.items, key=lambda item: item.path)]
        self._places = {item: place for place, item in enumerate(session.items)}
        self._processes: dict[Connection, TestProcess] = {}
        self._begun = self._ended = 0
        # Whose folders processes make theirs in.
        self._folder = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        if reporter := session.config.pluginmanager.getplugin("terminalreporter"):
            # Else every result would begin a line with the name of its file.
            reporter.showfspath = False

    def run(self, count: int) -> None:
        """Run all tests.

        Raises:
            pytest.Session.Failed: at the first failures, where options say so
            pytest.Session.Interrupted: a process ended between two tests, or a test was not run
        """
        try:
            for _ in range(min(count, len(self._files))):
                self._begin()
            while self._processes:
                for connection in wait(list(self._processes)):
                    try:
                        self._receive(connection)  # type: ignore[arg-type]  # of the connections that were given
                    except (EOFError, ConnectionError):
                        self._reap(connection)  # type: ignore[arg-type]
                if self._session.shouldfail or self._session.shouldstop:
                    break
        finally:
            for connection, process in self._processes.items():
                os.kill(process.pid, signal.SIGINT)
                # Where Python drops the interrupt, as in a finalizer.
                connection.close()
            for process in self._processes.values():
                os.waitpid(process.pid, 0)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if not self._session.shouldstop and self._ended < len(self._session.items):
            self._session.shouldstop = f"only {self._ended} of {len(self._session.items)} tests were run"
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _begin(self) -> None:
        ours, theirs = Pipe()
        self._begun += 1
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        if (pid := os.fork()) == 0:
            if not die_with_parent(parent):
                os._exit(1)
            ours.close()
            for connection in self._processes:
                connection.close()
            try:
                _run_dealt_tests(self._session, theirs, self._folder / f"process-{self._begun}")
            finally:
                os._exit(1)
        theirs.close()
        self._processes[ours] = TestProcess(pid)

    def _receive(self, connection: Connection) -> None:
        process = self._processes[connection]
        word, content = connection.recv()
        if word == "next":
            process.waiting = self._files.pop(0) if self._files else []
            connection.send([self._places[item] for item in process.waiting])
        elif word == "start":
            process.running = process.waiting.pop(0)
        elif word == "report":
            self._hook.pytest_runtest_logreport(
                report=self._hook.pytest_report_from_serializable(config=self._session.config, data=content)
            )
        else:
            item, process.running = process.running, None
            self._ended += 1
            self._hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _reap(self, connection: Connection) -> None:
        """Report the test that a process died of, and leave what it had not begun to another."""
        process = self._processes.pop(connection)
        connection.close()
        code = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        if process.running:
            self._ended += 1
            ending = CallInfo.from_call(
                lambda: pytest.fail(f"the process that ran this ended with {code}", pytrace=False), "call"
            )
            self._hook.pytest_runtest_logreport(report=pytest.TestReport.from_item_and_call(process.running, ending))
        elif code:
            self._session.shouldstop = f"a process that ran tests ended with {code}"
        if process.waiting:
            self._files.insert(0, process.waiting)
        if self._files:
            self._begin()


class TestListener:
    """Sends what happens to tests of this process to the dealer."""

    __test__ = False

    def __init__(self, session: pytest.Session, dealer: Connection) -> None:
        self._config = session.config
        self._dealer = dealer

    def pytest_runtest_logstart(self) -> None:
        self._dealer.send(("start", None))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._dealer.send(("report", self._config.hook.pytest_report_to_serializable(config=self._config, report=report)))

    def pytest_runtest_logfinish(self) -> None:
        self._dealer.send(("finish", None))


def _run_dealt_tests(session: pytest.Session, dealer: Connection, folder: Path) -> NoReturn:
    """Be a process that runs tests, to its good end."""
    # What the dealer does at its end.
    atexit._clear()
    fork_server(dealer)
    plugins = session.config.pluginmanager
    folder.mkdir(mode=0o700)
    session.config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
    # The files that hold what is printed are those of all processes.
    capture = plugins.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    if reporter := plugins.getplugin("terminalreporter"):
        # The dealer reports.
        reporter._tw._file = open(os.devnull, "w")  # noqa: SIM115
    plugins.register(TestListener(session, dealer))
    item = session.items[0]
    with suppress(KeyboardInterrupt, EOFError, ConnectionError):
        try:
            while items := _next_file(session, dealer):
                # Behind the last one, what lives as long as the session stays.
                for item, following in zip(items, [*items[1:], session], strict=True):
                    session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        finally:
            ended = CallInfo.from_call(lambda: session._setupstate.teardown_exact(None), "teardown")
            if ended.excinfo:
                report = pytest.TestReport.from_item_and_call(item, ended)
                session.config.hook.pytest_runtest_logreport(report=report)
    atexit._run_exitfuncs()
    os._exit(0)


def _next_file(session: pytest.Session, dealer: Connection) -> list[pytest.Item]:
    """The tests of another file; none where there is none."""
    dealer.send(("next", None))
    return [session.items[place] for place in dealer.recv()]
