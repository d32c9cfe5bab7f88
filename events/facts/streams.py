"""Names of all streams of a log, and what a name says."""

from __future__ import annotations

from typing import Final

from events.facts.digests import NAME_DIGITS
from events.facts.values import Digest

RUN: Final = "run"
"""Start and end of the run, its iterations, and which weights are served."""
GOALPOSTS: Final = "goalposts"
"""The run's goalposts."""
_EPISODE: Final = "episode/"
_EVALUATION: Final = "evaluation/"


def episode_stream(iteration: int, number: int) -> str:
    """The stream of an episode: `episode/00003/012` is the thirteenth of iteration 3."""
    return f"{_EPISODE}{iteration:05}/{number:03}"


def policy_stream(policy: str) -> str:
    """The stream of a policy's updates: `policy/shared`, `policy/teacher` or `policy/student`."""
    return f"policy/{policy}"


def trial_stream(iteration: int, number: int, student: int) -> str:
    """The stream of a trial: `trial/00003/2.1` is that of the first student on set 2; `trial/00003/0.0` is of no trial."""
    return f"trial/{iteration:05}/{number}.{student}"


def evaluation_stream(question_set: str, iteration: int) -> str:
    """The stream of an evaluation after an iteration of a run: `evaluation/test/00003`."""
    return f"{_EVALUATION}{question_set}/{iteration:05}"


def evaluation_share_stream(evaluation: str, share: int) -> str:
    """The stream of a share's attempts in an evaluation: `evaluation/test/00003/1`."""
    return f"{evaluation}/{share}"


def policy_evaluation_stream(question_set: str, policy: Digest, seed: int) -> str:
    """The stream of an evaluation of given weights outside a run: `evaluation/test/1f3c9a0b2d4e-0`."""
    return f"{_EVALUATION}{question_set}/{policy[:NAME_DIGITS]}-{seed}"


def is_episode(stream: str) -> bool:
    """Whether it is the stream of an episode."""
    return stream.startswith(_EPISODE)


def is_evaluation(stream: str) -> bool:
    """Whether it is the stream of an evaluation, or of a share of one."""
    return stream.startswith(_EVALUATION)


def is_shared(stream: str) -> bool:
    """Whether several players may append to it: the stream of an episode, or of a share of an evaluation."""
    return is_episode(stream) or (is_evaluation(stream) and stream.count("/") == 3)


def iteration_of(stream: str) -> int:
    """The iteration in the name of an episode's stream, or of an evaluation's of a run."""
    return int(stream.split("/")[-2 if is_episode(stream) else -1])
