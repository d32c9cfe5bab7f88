"""What a child sent and how it ended, read without trusting either."""

import json
import signal
import struct

import pytest

from sandbox.host.exit_status import TAMPERED, ChildExit, exit_reply, function_replies, parse_replies, stdout_reply

OK = ["ok", "42", ""]
KILLED = int(signal.SIGKILL)


def frame(answer):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return struct.pack("!I", len(body)) + body


def exit_status_of(answers=b"", **more):
    return ChildExit(answers=answers, **more)


def test_whole_answers_are_read():
    assert parse_replies(exit_status_of(frame(OK) + frame(["exited", "", "SystemExit: 0"])), 2) == [
        ("ok", "42", ""),
        ("exited", "", "SystemExit: 0"),
    ]


@pytest.mark.parametrize(
    "answers",
    [
        b"\xff" * 100, b"\0\0\0\0", frame(OK)[:-1], frame(OK) + b"\0", frame(OK) + frame(OK),
        frame(["ok", "42", "", ""]), frame(["ok", 42, ""]), frame(["ok", "42", "and a reason"]),
        frame(["runtime_error", "42", "a reason and a value"]), frame(["runtime_error", "", ""]),
        frame(["time_limit", "", "not for a child to say"]), frame(["forbidden", "", "not for a child to say"]),
        frame(["passed", "42", ""]), frame(["ok", "\ud800", ""]), frame([["ok"], "42", ""]), frame(b"[" * 100_000),
        frame(b"9" * 10_000), frame(b"\xff\xfe"), frame(b"null"),
    ],
)  # fmt: skip
def test_what_is_no_answer_leaves_none_that_counts(answers):
    assert parse_replies(exit_status_of(answers), 1) is None
    assert stdout_reply(exit_status_of(answers)) == TAMPERED


def test_an_answer_may_be_cut_off_where_the_child_was_killed():
    cut = frame(OK) + frame(OK)[:-1]
    assert parse_replies(exit_status_of(cut, cause="time_limit"), 2) == [("ok", "42", "")]
    assert parse_replies(exit_status_of(cut, status=KILLED), 2) == [("ok", "42", "")]
    assert parse_replies(exit_status_of(cut, status=1 << 8), 2) is None


def test_inputs_that_were_not_answered_share_the_reason():
    end = exit_status_of(frame(OK), status=int(signal.SIGSEGV))
    assert function_replies(end, 3, 9) == [("ok", "42", ""), exit_reply(end), exit_reply(end)]
    assert function_replies(exit_status_of(frame(OK)), 0, 9) == []
    assert function_replies(exit_status_of(frame(OK) + b"x"), 2, 9) == [TAMPERED, TAMPERED]


def test_a_value_longer_than_allowed_is_output_limit_even_if_the_child_sent_it():
    long = frame(["ok", "'é'", ""])
    assert [status for status, _, _ in function_replies(exit_status_of(frame(OK) + long), 2, 3)] == ["ok", "output_limit"]
    assert function_replies(exit_status_of(long), 1, 4) == [("ok", "'é'", "")]


@pytest.mark.parametrize("length", [101, 100_000])
def test_a_value_longer_than_one_may_be_is_no_value_and_spoils_no_other(length):
    answers = frame(OK) + frame(["ok", "é" * length, ""]) + frame(OK)
    assert [status for status, *_ in parse_replies(exit_status_of(answers), 3, 200)] == ["ok", "output_limit", "ok"]
    assert parse_replies(exit_status_of(frame(["ok", "é" * 100, ""])), 1, 200) == [("ok", "é" * 100, "")]


def test_a_program_that_came_to_its_end_may_fail_to_flush():
    assert stdout_reply(exit_status_of(frame(["ok", "", ""]), output=b"42\n", status=120 << 8)) == ("ok", "42\n", "")
    assert stdout_reply(exit_status_of(frame(["ok", "", ""]), output=b"42\n", status=3 << 8))[0] == "exited"
    assert stdout_reply(exit_status_of(output=b"42\n", status=120 << 8))[0] == "exited"


def test_more_than_all_answers_can_hold_is_tampering():
    assert parse_replies(exit_status_of(frame(OK), cause="tampered"), 1) is None


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (exit_status_of(cause="time_limit"), "time_limit"),
        (exit_status_of(cause="output_limit"), "output_limit"),
        (exit_status_of(cause="not_reached"), "time_limit"),
        (exit_status_of(cause="unread"), "time_limit"),
        (exit_status_of(status=3 << 8), "exited"),
        (exit_status_of(), "exited"),
        (exit_status_of(status=int(signal.SIGXCPU)), "time_limit"),
        (exit_status_of(status=KILLED, out_of_cpu=True), "time_limit"),
        (exit_status_of(status=KILLED, out_of_memory=True), "memory_limit"),
        (exit_status_of(status=KILLED), "exited"),
        (exit_status_of(status=int(signal.SIGSEGV)), "exited"),
        (exit_status_of(status=int(signal.SIGSYS)), "forbidden"),
        (exit_status_of(status=40), "exited"),
    ],
)
def test_every_end_without_an_answer_has_a_status_and_a_reason(end, status):
    exit_status, value, reason = exit_reply(end)
    assert (exit_status, value) == (status, "")
    assert reason


def test_a_program_that_prints_and_ends_well_need_not_answer():
    assert stdout_reply(exit_status_of(output=b"42\n")) == ("ok", "42\n", "")
    assert stdout_reply(exit_status_of(frame(["ok", "", ""]), output=b"42\n")) == ("ok", "42\n", "")
    assert stdout_reply(exit_status_of(frame(["ok", "7", ""]), output=b"42\n")) == ("ok", "42\n", "")
    assert stdout_reply(exit_status_of(output=b"42\n", status=1 << 8))[0] == "exited"
    assert stdout_reply(exit_status_of(frame(["runtime_error", "", "KeyError: 1"]), output=b"42\n"))[0] == "runtime_error"
