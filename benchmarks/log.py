"""`make bench-log`: measures the event log and writes its section of `docs/benchmarks.md`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks import graph_transitions, log_appends, log_replay, section
from benchmarks.command import run_main
from benchmarks.rounds import claims_table, table
from events.cli.app import LOG_NAME
from events.facts.errors import BadInput
from tests.support.postgres_server import find_postgres, postgres_server

PACKAGES = ("eventsourcing", "langgraph", "langgraph-checkpoint-sqlite", "psycopg", "pydantic")
NOTES = """\
All take turns, round by round. Shown are medians with the lowest and the highest round; a ratio is taken within a round.
Appends wait for the disk alike: SQLite in WAL mode with synchronous=FULL (the library's default as well), PostgreSQL with
synchronous_commit=on, all files in one folder, the same JSON as payload. The bare drivers insert rows that are finished; ours
makes canonical JSON, validates it, hashes it into two chains, checks versions, counts, and keeps triggers and one more index.
Replay is counted in CPU time of one thread, everything else by the clock. "Validated" has the library read its own copy of the
events and validate them with our classes. Nodes of the graph do no work: beside a model that takes a second to answer, all
three are the same."""


def main(
    events: Annotated[int, typer.Option(help="Events of the long log.", min=1000)] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="Rounds of measurement.", min=1)] = 5,
    appended: Annotated[int, typer.Option(help="Events appended one by one in a round.", min=64)] = 640,
    folder: Annotated[Path, typer.Option(help="Where files are made, on the disk to be measured.")] = Path("build/bench-log"),
    run: Annotated[Path | None, typer.Option(help="A run whose rollouts are weighed as well.")] = None,
    document: Annotated[Path, typer.Option(help="Where the section is written.")] = section.DOCUMENT,
) -> None:
    """Measure the event log against bare drivers, the library `eventsourcing` and LangGraph's checkpointer. A few minutes."""
    programs = find_postgres()
    if programs is None:
        raise BadInput("there is no PostgreSQL server to start; install one with .ci/postgres")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    sync_ms = 1000 * _sync_s(fresh)
    lines = [f"{section.machine(PACKAGES)}, SQLite {sqlite3.sqlite_version}; fdatasync of 4 KiB in {sync_ms:.2f} ms."]
    with section.step("a long log"):
        long = log_replay.long_log(folder, events)
    with postgres_server(programs) as server:
        with section.step("appends against bare drivers"):
            claims = log_appends.append_claims(fresh, server.url, rounds=rounds, events=appended)
        with section.step("many producers against eventsourcing"):
            claims += log_appends.producers(fresh, server.url, rounds=rounds, events=4 * appended)
    with section.step("replay"):
        claims += log_replay.replay_claims(folder, rounds=rounds, events=events)
    with section.step("the graph"):
        claims += graph_transitions.transition_claims(fresh, rounds=rounds, steps=max(5, appended // 32))
    with section.step("commands"):
        commands = log_replay.commands(folder, rounds=rounds, events=events)
    weighed = {"made up": long} | ({run.name: run / LOG_NAME} if run else {})
    with section.step("rollouts"):
        rollouts = [[name, *log_replay.bytes_a_rollout(path)] for name, path in weighed.items()]
    shutil.rmtree(fresh)
    many = f"{events:,}".replace(",", " ")
    lines += ["", NOTES, "", *claims_table(claims), "", f"Commands on {many} events:", ""]
    lines += table(["command", "from start to end", "memory", "memory on 1 000 events", "aim"], commands)
    lines += [
        "",
        "Bytes a rollout (one completion), of which the log holds prompt, text, ids, logprobs, verdict and rewards:",
        "",
    ]
    head = ["log", "rollouts", "tokens each", "log, all in all", "their blobs", "as lines of JSON", "JSON / log"]
    lines += table(head, rollouts)
    section.write(document, "log", "The event log", lines)
    section.summary(claims)


def _sync_s(folder: Path) -> float:
    taken = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"\0" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken)


if __name__ == "__main__":
    run_main(main)
