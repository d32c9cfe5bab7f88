"""Tests that run in several processes are all reported, whatever happens to a process."""

import re

from tests.support.forked_cli import run_forked

FILES = {
    "conftest.py": """
        import pathlib, pytest
        @pytest.fixture(scope="session")
        def server(tmp_path_factory):
            yield tmp_path_factory.getbasetemp()
            with (pathlib.Path(__file__).parent / "closed").open("a") as file:
                file.write("x")
    """,
    "test_good.py": """
        def test_one(server): server.joinpath("one").touch()
        def test_two(server): assert server.joinpath("one").exists()
    """,
    "test_bad.py": """
        import pytest
        def test_fails():
            print("what was printed")
            assert [1, 2] == [1, 3]
        def test_is_skipped(): pytest.skip("no reason")
    """,
    "test_killed.py": """
        import os
        def test_before(): pass
        def test_dies(): os.kill(os.getpid(), 9)
        def test_behind(server): pass
    """,
}


def run_tests(folder, *options):
    for name, text in FILES.items():
        (folder / name).write_text("\n".join(line[8:] for line in text.splitlines()))
    plugins = ("-p", "no:cacheprovider", "-p", "tests.support.forked_workers")
    return run_forked("pytest", "-c", "/dev/null", f"--rootdir={folder}", *plugins, "--processes", 2, *options, folder)


def test_every_test_is_reported_what_kills_a_process_fails_and_what_was_made_is_closed(tmp_path):
    done = run_tests(tmp_path, "-rA")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 4 passed, 1 skipped" in done.stdout
    for pattern in (
        "PASSED .*test_behind",
        "FAILED .*test_dies",
        "ended with -9",
        "what was printed",
        "At index 1 diff: 2 != 3",
    ):
        assert re.search(pattern, done.stdout)
    assert len((tmp_path / "closed").read_text()) in (1, 2)


def test_the_first_failure_may_end_it(tmp_path):
    done = run_tests(tmp_path, "-x", "-q")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "stopping after 1 failures" in done.stdout
