"""Whether a proposal is a question about its document: in words of its own, and about what the document holds."""

from __future__ import annotations

from events.facts.questions import read_question
from events.facts.values import Question
from graph.play.context import NodeContext
from graph.play.state import EpisodeState
from roles.judging.grounding import copied_share
from roles.judging.proposal_validator import RejectedProposal
from roles.prompt import document_text


def document_objection(context: NodeContext, episode: EpisodeState, question: Question) -> RejectedProposal | None:
    """Why a question is none about the episode's document; None if it is one, or there is no document."""
    if episode.document is None:
        return None
    document = document_text(read_question(context.log, episode.document))
    share = copied_share(question.statement, document)
    if share > context.documents.copied:
        return RejectedProposal("copied", f"{share:.0%} of the statement's 6-grams are in the document", question)
    if context.grounded is not None and not context.grounded(question.statement, document):
        return RejectedProposal("ungrounded", "the statement asks for what the document does not hold", question)
    return None
