"""Draws a goalpost in the terminal: why it was or was not solved, how its gap moved, and its episodes as a tree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.facts.log import ReadableLog, read_facts
from events.facts.questions import readable_question
from events.facts.types import PolicyUpdated
from events.facts.values import BlobHash, Question, QuestionId
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry, GapEntry, GoalpostEntry
from events.projections.best_answer import BestAnswer, best_answer
from events.projections.goalpost_history import EpisodeDetail, episode_detail, episode_histories
from events.reports.explanation import explain_goalpost, statement_doubt
from events.terminal.drawing import SHORT_DIFF, diff_text, heading, indented, next_commands, plain_text, program_text
from events.terminal.question import question_parts
from events.text.phrases import SEAT_NOUNS, count_text, share, words
from events.text.safe_text import clean, one_line

MAX_STATEMENT = 300
"""Characters of a variant's statement that are shown."""
MAX_DETAIL = 100
"""Characters of the reason of a rejection that are shown."""
MEASURES = 12
"""Latest measures of the gap that are shown on a line."""


@dataclass(frozen=True)
class GoalpostView:
    """A goalpost as it is shown."""

    goalpost: GoalpostEntry
    gaps: list[GapEntry]
    why: str
    best_answer: BestAnswer | None
    episodes: list[EpisodeDetail]
    """The latest ones, the oldest first."""

    @property
    def data(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "why": self.why,
            "question": self.goalpost.question,
            "blob": self.goalpost.blob,
            "source": self.goalpost.source,
            "episodes_in_all": self.goalpost.episodes,
            "episodes": [asdict(episode) for episode in self.episodes],
            "measures": [asdict(gap) | {"gap": gap.gap} for gap in self.gaps],
            "best_answer": None if self.best_answer is None else asdict(self.best_answer),
        }


def goalpost_view(log: ReadableLog, index: Index, question: QuestionId, *, episodes: int | None = None) -> GoalpostView:
    """All that is shown of a goalpost, with its latest `episodes`, or with all of them; BadInput if the run has no such one."""
    goalpost = index.goalpost(question)
    if goalpost is None:
        raise BadInput(f"No goalpost of this run has the id {question!r}; `gasp trace RUN` lists them.")
    gaps = index.gaps(question)
    histories = episode_histories(index, question, gaps, limit=goalpost.episodes)
    updates = list(read_facts(log, PolicyUpdated))
    shown = histories if episodes is None else histories[-episodes:]
    return GoalpostView(
        goalpost,
        gaps,
        explain_goalpost(goalpost, gaps, (proposal for episode in histories for proposal in episode.proposals)),
        best_answer(log, index, question, gaps),
        [episode_detail(log, index, episode, updates) for episode in shown],
    )


def draw_goalpost(view: GoalpostView, log: ReadableLog, where: str, *, diff: bool = False) -> RenderableType:
    """The goalpost, from the explanation to the next commands; `diff` compares every variant with its parent, however long."""
    goalpost, question = view.goalpost, readable_question(log, view.goalpost.blob)
    title = Text.assemble((f"goalpost {clean(goalpost.question)}", "bold"), f" from {one_line(goalpost.source, 32)}")
    parts: list[RenderableType] = [title, plain_text(view.why), "", *_question(question, goalpost.blob)]
    if view.gaps:
        parts += ["", heading("Gap, in an iteration by its episode, after it by an evaluation"), indented(_gaps(view.gaps))]
    if view.episodes:
        parts += ["", _episodes(view, question, log, diff=diff)]
    return Group(*parts, "", next_commands(where, _next(view)))


def _question(question: Question | None, blob: BlobHash) -> list[RenderableType]:
    return [_unreadable(blob)] if question is None else question_parts(question)


def _unreadable(blob: BlobHash) -> Text:
    return Text(f"Question {clean(blob)[:SHORT]} cannot be read; the log is damaged.", "red")


def _gaps(gaps: list[GapEntry]) -> Text:
    shown = gaps[-MEASURES:]
    line = Text(f"… {len(gaps) - len(shown)} earlier … " if len(shown) < len(gaps) else "")
    for position, gap in enumerate(shown):
        line.append(" → " if position else "")
        line.append(f"{gap.gap:.2f}", "bold green" if gap.successes else "bold")
        line.append(f" {'after' if gap.best_share is None else 'in'} {gap.iteration}", "dim")
    return line


def _episodes(view: GoalpostView, question: Question | None, log: ReadableLog, *, diff: bool) -> Tree:
    count, total = len(view.episodes), view.goalpost.episodes
    root = Tree(heading(f"Episodes, the latest {count} of {total}" if count < total else "Episodes"))
    for episode in view.episodes:
        root.add(episode_branch(episode, question, log, diff=diff))
    return root


def episode_branch(episode: EpisodeDetail, goalpost: Question | None, log: ReadableLog, *, diff: bool) -> Tree:
    """One episode, each lift under the lemma that it varies."""
    ending = one_line(words(episode.ending or "going on"))
    after = f" → {episode.gap_after:.2f}" if episode.gap_after is not None else ""
    gap = "" if episode.gap is None else f", gap {episode.gap:.2f}{after}, best answer {share(episode.best_share)}"
    learned = f", learned by {', '.join(clean(digest)[:SHORT] for digest in episode.learned)}" if episode.learned else ""
    title = Text.assemble((f"iteration {episode.iteration}", "bold"), f" axis {episode.axis}: {ending}{gap}{learned}")
    branch = Tree(title.append(f"  {one_line(episode.stream)}", "dim"))
    if episode.failure:
        branch.add(Text(one_line(episode.failure, 200), "red"))
    for answers in episode.gap_answers:
        branch.add(_answers(answers))
    nodes: dict[QuestionId | None, tuple[Tree, Question | None]] = {}
    for proposal in episode.proposals:
        above, parent = nodes.get(proposal.parent, (branch, goalpost))
        node, question = above.add(_proposal(proposal)), readable_question(log, proposal.blob)
        if proposal.accepted:
            nodes[proposal.question] = node, question
        if proposal.blob is not None and (proposal.accepted or diff):
            _add_variant(node, question, parent, proposal.blob, diff=diff)
        for answers in episode.answers_to(proposal):
            node.add(_answers(answers))
    return branch


def _add_variant(node: Tree, question: Question | None, parent: Question | None, blob: BlobHash, *, diff: bool) -> None:
    """Add the statement, and how the program differs from that of the question that it varies."""
    if question is None:
        node.add(_unreadable(blob))
        return
    statement = plain_text(question.statement, None if diff else MAX_STATEMENT)
    statement.stylize("italic")
    node.add(statement)
    if question.program is None:
        return
    if parent is None or parent.program is None:
        node.add(program_text(question.program))
    elif changed := diff_text(parent.program, question.program, most=None if diff else SHORT_DIFF):
        node.add(changed)


def _proposal(proposal: AppearanceEntry) -> Text:
    noun = SEAT_NOUNS[proposal.seat] if proposal.seat is not None else proposal.origin
    parts = [] if proposal.question is None else [clean(proposal.question)[:SHORT]]
    if proposal.attempts:
        parts.append(f"solved {proposal.successes}/{proposal.attempts}")
    if proposal.reward is not None:
        parts.append(f"reward {proposal.reward:.2f}")
    if proposal.similarity is not None:
        parts.append(f"similarity {proposal.similarity:.2f}")
    if proposal.aligned is not None:
        parts.append("aligned" if proposal.aligned else "not aligned")
    if doubt := statement_doubt(proposal.attempts, proposal.agreeing):
        parts.append(doubt)
    if proposal.vote:
        parts.append(proposal.vote)
    if proposal.accepted:
        return Text.assemble((noun, "bold green"), " accepted: ", ", ".join(parts))
    reason = words(proposal.reason or "not judged yet")
    detail = f" ({one_line(proposal.detail, MAX_DETAIL)})" if proposal.detail else ""
    return Text(", ".join([f"{noun} proposal {proposal.attempt}: {reason}{detail}", *parts]), "dim")


def _answers(answers: AttemptsEntry) -> Text:
    mean = f", mean reward {answers.reward:.2f}" if answers.reward is not None else ""
    verdicts = count_text({str(name): count for name, count in answers.outcomes.items()}) or "not verified yet"
    line = Text(f"{words(answers.purpose)} as {answers.task}: {verdicts}{mean}")
    return line.append(f"  {one_line(answers.stream)}:{answers.version}", "dim")


def _next(view: GoalpostView) -> list[tuple[str, str, str]]:
    name, best, total = clean(view.goalpost.question)[:SHORT], view.best_answer, view.goalpost.episodes
    accepted = [row.question for episode in view.episodes for row in episode.proposals if row.accepted and row.question]
    commands = [("its latest answers, one by one", "events.trace", f"{name} --attempt 0")]
    if best is not None:
        answer = f"--answers {one_line(best.stream)}:{best.version} --attempt {best.index}"
        commands.insert(0, (best.name, "events.trace", answer))
    if accepted:
        commands.append(("its latest variant", "events.trace", clean(accepted[-1])[:SHORT]))
    commands.append(("every program compared", "events.trace", f"{name} --diff"))
    if total > len(view.episodes):
        commands.append((f"all {total} episodes", "events.trace", f"{name} --all"))
    return [*commands, ("the same in the browser", "events.web", "")]
