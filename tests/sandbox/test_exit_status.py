"""What a child sent and how it ended, read without trusting either."""

import json
import signal
import struct

import pytest

from sandbox.host.exit_status import TAMPERED, Ending, answered, explain, printed, read_answers

OK = ["ok", "42", ""]
KILLED = int(signal.SIGKILL)


def frame(answer):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return struct.pack("!I", len(body)) + body


def ending(answers=b"", **more):
    return Ending(answers=answers, **more)


def test_whole_answers_are_read():
    assert read_answers(ending(frame(OK) + frame(["exited", "", "SystemExit: 0"])), 2) == [
        ("ok", "42", ""),
        ("exited", "", "SystemExit: 0"),
    ]


@pytest.mark.parametrize(
    "answers",
    [
        b"\xff" * 100,
        b"\0\0\0\0",
        frame(OK)[:-1],
        frame(OK) + b"\0",
        frame(OK) + frame(OK),
        frame(["ok", "42", "", ""]),
        frame(["ok", 42, ""]),
        frame(["ok", "42", "and a reason"]),
        frame(["runtime_error", "42", "a reason and a value"]),
        frame(["runtime_error", "", ""]),
        frame(["time_limit", "", "not for a child to say"]),
        frame(["forbidden", "", "not for a child to say"]),
        frame(["passed", "42", ""]),
        frame(["ok", "\ud800", ""]),
        frame([["ok"], "42", ""]),
        frame(b"[" * 100_000),
        frame(b"9" * 10_000),
        frame(b"\xff\xfe"),
        frame(b"null"),
    ],
)
def test_what_is_no_answer_leaves_none_that_counts(answers):
    assert read_answers(ending(answers), 1) is None
    assert printed(ending(answers)) == TAMPERED


def test_an_answer_may_be_cut_off_where_the_child_was_killed():
    cut = frame(OK) + frame(OK)[:-1]
    assert read_answers(ending(cut, cause="time_limit"), 2) == [("ok", "42", "")]
    assert read_answers(ending(cut, status=KILLED), 2) == [("ok", "42", "")]
    assert read_answers(ending(cut, status=1 << 8), 2) is None


def test_inputs_that_were_not_answered_share_the_reason():
    end = ending(frame(OK), status=int(signal.SIGSEGV))
    assert answered(end, 3, 9) == [("ok", "42", ""), explain(end), explain(end)]
    assert answered(ending(frame(OK)), 0, 9) == []
    assert answered(ending(frame(OK) + b"x"), 2, 9) == [TAMPERED, TAMPERED]


def test_a_value_longer_than_allowed_is_output_limit_even_if_the_child_sent_it():
    long = frame(["ok", "'é'", ""])
    assert [status for status, _, _ in answered(ending(frame(OK) + long), 2, 3)] == ["ok", "output_limit"]
    assert answered(ending(long), 1, 4) == [("ok", "'é'", "")]


@pytest.mark.parametrize("length", [101, 100_000])
def test_a_value_longer_than_one_may_be_is_no_value_and_spoils_no_other(length):
    answers = frame(OK) + frame(["ok", "é" * length, ""]) + frame(OK)
    assert [status for status, *_ in read_answers(ending(answers), 3, 200)] == ["ok", "output_limit", "ok"]
    assert read_answers(ending(frame(["ok", "é" * 100, ""])), 1, 200) == [("ok", "é" * 100, "")]


def test_a_program_that_came_to_its_end_may_fail_to_flush():
    assert printed(ending(frame(["ok", "", ""]), output=b"42\n", status=120 << 8)) == ("ok", "42\n", "")
    assert printed(ending(frame(["ok", "", ""]), output=b"42\n", status=3 << 8))[0] == "exited"
    assert printed(ending(output=b"42\n", status=120 << 8))[0] == "exited"


def test_more_than_all_answers_can_hold_is_tampering():
    assert read_answers(ending(frame(OK), cause="tampered"), 1) is None


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ending(cause="time_limit"), "time_limit"),
        (ending(cause="output_limit"), "output_limit"),
        (ending(cause="not_reached"), "time_limit"),
        (ending(cause="unread"), "time_limit"),
        (ending(status=3 << 8), "exited"),
        (ending(), "exited"),
        (ending(status=int(signal.SIGXCPU)), "time_limit"),
        (ending(status=KILLED, out_of_cpu=True), "time_limit"),
        (ending(status=KILLED, out_of_memory=True), "memory_limit"),
        (ending(status=KILLED), "exited"),
        (ending(status=int(signal.SIGSEGV)), "exited"),
        (ending(status=int(signal.SIGSYS)), "forbidden"),
        (ending(status=40), "exited"),
    ],
)
def test_every_end_without_an_answer_has_a_status_and_a_reason(end, status):
    said, value, reason = explain(end)
    assert (said, value) == (status, "")
    assert reason


def test_a_program_that_prints_and_ends_well_need_not_answer():
    assert printed(ending(output=b"42\n")) == ("ok", "42\n", "")
    assert printed(ending(frame(["ok", "", ""]), output=b"42\n")) == ("ok", "42\n", "")
    assert printed(ending(frame(["ok", "7", ""]), output=b"42\n")) == ("ok", "42\n", "")
    assert printed(ending(output=b"42\n", status=1 << 8))[0] == "exited"
    assert printed(ending(frame(["runtime_error", "", "KeyError: 1"]), output=b"42\n"))[0] == "runtime_error"
