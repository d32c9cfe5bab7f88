"""A goalpost in the terminal: why it was or was not solved, how its gap moved, and its curriculum as a tree.

Law: drawn from `events.projections.goalpost_history` and the index; it decides nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from events.facts.digests import SHORT
from events.facts.errors import LogCorrupt
from events.facts.log import ReadableLog
from events.facts.streams import is_evaluation
from events.facts.values import BlobHash, Question, QuestionId, Seat
from events.index.reader import Index
from events.index.rows import GapEntry, GoalpostEntry
from events.projections.best_answer import BestAnswer, best_answer
from events.projections.goalpost_history import (
    AttemptGroup,
    EpisodeHistory,
    GoalpostHistory,
    ProposalHistory,
    goalpost_history,
    statement_doubt,
)
from events.reports.explanation import why
from events.reports.run_overview import count_text, share
from events.terminal.drawing import diff_text, heading, indented, next_commands, plain_text, program_text
from events.text.safe_text import clean, one_line

EPISODES = 5
"""Episodes that are shown unless more are asked for, the latest."""
STATEMENT = 300
"""Characters of a statement that are shown."""
DETAIL = 100
"""Characters of the reason of a rejection that are shown."""
MEASURES = 12
"""Measures that are shown on a line, the latest."""
SEAT_NOUNS: dict[Seat, str] = {"easy": "lemma", "hard": "lift", "open": "open question"}


@dataclass(frozen=True)
class GoalpostView:
    """A goalpost as it is shown."""

    row: GoalpostEntry
    gaps: list[GapEntry]
    why: str
    story: GoalpostHistory
    nearest: BestAnswer | None
    """The answer to look at first; None where no answer passed a test."""

    @property
    def data(self) -> dict[str, Any]:
        """The same for programs."""
        measures = [asdict(gap) | {"gap": gap.gap} for gap in self.gaps]
        nearest = None if self.nearest is None else asdict(self.nearest)
        return {"why": self.why, **asdict(self.story), "measures": measures, "nearest": nearest}


def goalpost_view(log: ReadableLog, index: Index, goalpost: QuestionId, *, episodes: int | None = EPISODES) -> GoalpostView:
    """All that is shown of a goalpost, with its latest episodes, or all.

    Raises:
        BadInput: the run has no such goalpost.
    """
    story = goalpost_history(log, index, goalpost, limit=episodes)
    row = index.goalpost(goalpost)
    assert row is not None
    gaps = index.gaps(goalpost)
    streams = [episode.stream for episode in index.episodes(goalpost, limit=row.episodes)]
    sentence = why(row, gaps, (proposal for stream in streams for proposal in index.proposals(stream)))
    return GoalpostView(row, gaps, sentence, story, best_answer(log, index, goalpost, gaps))


def draw_goalpost(told: GoalpostView, log: ReadableLog, where: str, *, diff: bool = False) -> RenderableType:
    """The goalpost, from the sentence to the next commands."""
    story, question = told.story, read_question(log, told.story.blob)
    title = Text.assemble((f"goalpost {clean(story.question)}", "bold"), f" from {one_line(story.source, 32)}")
    parts: list[RenderableType] = [title, plain_text(told.why), "", *_asking(question, story.blob)]
    if told.gaps:
        parts += [
            "",
            heading("Gap, in an iteration by its episode, after it by an examination"),
            indented(_measures(told.gaps)),
        ]
    if story.episodes:
        parts += ["", episode_tree(story, log, diff=diff)]
    return Group(*parts, "", next_commands(where, _deeper(told)))


def read_question(log: ReadableLog, blob: BlobHash) -> Question | None:
    """A question; None if it cannot be read."""
    try:
        return Question.model_validate_json(log.get(blob))
    except (LogCorrupt, ValueError):
        return None


def _asking(question: Question | None, blob: BlobHash) -> list[RenderableType]:
    if question is None:
        return [_unreadable(blob)]
    parts: list[RenderableType] = [heading("Statement"), indented(plain_text(question.statement))]
    if question.context:
        parts += ["", heading("Code before every answer"), indented(program_text(question.context))]
    if question.program is not None:
        parts += ["", heading("Reference program"), indented(program_text(question.program))]
    return parts


def _unreadable(blob: BlobHash) -> Text:
    return Text(f"question {clean(blob)[:SHORT]} cannot be read; the log is damaged", "red")


def _measures(gaps: list[GapEntry]) -> Text:
    shown = gaps[-MEASURES:]
    line = Text(f"… {len(gaps) - len(shown)} earlier … " if len(shown) < len(gaps) else "")
    for place, gap in enumerate(shown):
        kind = "after" if is_evaluation(gap.stream) else "in"
        line.append(" → " if place else "")
        line.append(f"{gap.gap:.2f}", "bold green" if gap.successes else "bold")
        line.append(f" {kind} {gap.iteration}", "dim")
    return line


def episode_tree(story: GoalpostHistory, log: ReadableLog, *, diff: bool) -> Tree:
    """The episodes that were told, with lifts under the lemmas that they vary."""
    count, left = len(story.episodes), story.episodes_in_all - len(story.episodes)
    title = f"Episodes, the latest {count} of {story.episodes_in_all}" if left else "Episodes"
    root = Tree(heading(title))
    goalpost = read_question(log, story.blob)
    for episode in story.episodes:
        root.add(episode_branch(episode, goalpost, log, diff=diff))
    return root


def episode_branch(episode: EpisodeHistory, goalpost: Question | None, log: ReadableLog, *, diff: bool) -> Tree:
    """One episode."""
    ending = one_line((episode.ending or "going on").replace("_", " "))
    after = f" → {episode.gap_after:.2f}" if episode.gap_after is not None else ""
    gap = "" if episode.gap is None else f", gap {episode.gap:.2f}{after}, nearest answer {share(episode.best_share)}"
    learned = f", learned by {', '.join(clean(digest)[:SHORT] for digest in episode.learned)}" if episode.learned else ""
    title = Text.assemble((f"iteration {episode.iteration}", "bold"), f" axis {episode.axis}: {ending}{gap}{learned}")
    title.append(f"  {one_line(episode.stream)}", "dim")
    branch = Tree(title)
    if episode.failure:
        branch.add(Text(one_line(episode.failure, 200), "red"))
    for answers in episode.answers:
        branch.add(_answers(answers, episode.stream))
    # A lift hangs under the lemma that it varies.
    under: dict[str, tuple[Tree, Question | None]] = {}
    for proposal in episode.proposals:
        above, parent = under.get(proposal.parent, (branch, goalpost))
        node = above.add(_proposal(proposal))
        asked = None if proposal.blob is None else read_question(log, proposal.blob)
        if proposal.question is not None and proposal.accepted:
            under[proposal.question] = node, asked
        if proposal.blob is not None and (proposal.accepted or diff):
            _variant(node, asked, parent, proposal.blob, diff=diff)
        for answers in proposal.answers:
            node.add(_answers(answers, episode.stream))
    return branch


def _variant(node: Tree, asked: Question | None, parent: Question | None, blob: BlobHash, *, diff: bool) -> None:
    """The statement, and how the program differs from that of the question that it varies."""
    if asked is None:
        node.add(_unreadable(blob))
        return
    statement = plain_text(asked.statement, None if diff else STATEMENT)
    statement.stylize("italic")
    node.add(statement)
    if asked.program is None:
        return
    if parent is None or parent.program is None:
        node.add(program_text(asked.program))
        return
    changed = diff_text(parent.program, asked.program, most=None) if diff else diff_text(parent.program, asked.program)
    if changed is not None:
        node.add(changed)


def _proposal(proposal: ProposalHistory) -> Text:
    name = SEAT_NOUNS[proposal.seat]
    parts = [] if proposal.question is None else [clean(proposal.question)[:SHORT]]
    if proposal.attempts:
        parts.append(f"solved {proposal.successes}/{proposal.attempts}")
    if proposal.reward is not None:
        parts.append(f"reward {proposal.reward:.2f}")
    if proposal.similarity is not None:
        parts.append(f"similarity {proposal.similarity:.2f}")
    if proposal.aligned is not None:
        parts.append("aligned" if proposal.aligned else "not aligned")
    if unsure := statement_doubt(proposal.attempts, proposal.agreeing):
        parts.append(unsure)
    if proposal.accepted:
        return Text.assemble((name, "bold green"), " accepted: ", ", ".join(parts))
    reason = (proposal.rejected or "not judged yet").replace("_", " ")
    detail = f" ({one_line(proposal.detail, DETAIL)})" if proposal.detail else ""
    return Text(", ".join([f"{name} proposal {proposal.attempt}: {reason}{detail}", *parts]), "dim")


def _answers(answers: AttemptGroup, stream: str) -> Text:
    mean = f", mean reward {sum(answers.rewards) / len(answers.rewards):.2f}" if answers.rewards else ""
    found = count_text(answers.outcomes) or "not verified yet"
    line = Text(f"{answers.purpose.replace('_', ' ')} as {answers.task}: {found}{mean}")
    return line.append(f"  {one_line(stream)}:{answers.version}", "dim")


def _deeper(told: GoalpostView) -> list[tuple[str, str, str]]:
    story, name = told.story, clean(told.story.question)[:SHORT]
    accepted = [one.question for episode in story.episodes for one in episode.proposals if one.accepted and one.question]
    commands = [("its latest answers, one by one", "events.trace", f"{name} --attempt 0")]
    if told.nearest is not None:
        place = told.nearest
        at = f"--answers {one_line(place.stream)}:{place.version} --attempt {place.index}"
        commands.insert(0, (place.name, "events.trace", at))
    if accepted:
        commands.append(("its latest variant", "events.trace", clean(accepted[-1])[:SHORT]))
    commands.append(("every program compared", "events.trace", f"{name} --diff"))
    if story.episodes_in_all > len(story.episodes):
        commands.append((f"all {story.episodes_in_all} episodes", "events.trace", f"{name} --all"))
    return [*commands, ("the same in the browser", "events.web", "")]
