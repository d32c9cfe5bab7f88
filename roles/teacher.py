"""The teacher: one role with three seats, which propose questions.

The easy seat writes lemmas, the hard seat lifts, the open seat open questions. In GASP the hard seat sees only the lemma, so
that difficulty grows from what the student can do (arXiv 2603.15957, section 3.1).

Not responsible for: validating its proposals (`roles.verifier`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from events.facts.log import Log
from events.facts.values import Axis, Generation, Level, Question, Sampling, Task
from events.pure.answer_parsing import INPUTS
from roles.generation_record import record_generation
from roles.model import Model
from roles.prompt import Prompts, Rendered


@dataclass(frozen=True)
class Teacher:
    """Proposes questions."""

    model: Model
    prompts: Prompts
    log: Log
    sampling: Sampling
    inputs: int = INPUTS
    """Inputs that a proposal must have."""

    async def lemma(self, goalpost: Question, axis: Axis, seed: int) -> Generation:
        """The easy seat proposes a lemma of a goalpost."""
        return await self._propose(self.prompts.easy(goalpost, axis, self.inputs), seed)

    async def lift(self, lemma: Question, axis: Axis, seed: int, goalpost: Question | None = None) -> Generation:
        """The hard seat proposes a lift of a lemma, aimed at a goalpost if there is one."""
        if goalpost is None:
            return await self._propose(self.prompts.hard(lemma, axis, self.inputs), seed)
        return await self._propose(self.prompts.aimed(lemma, goalpost, axis, self.inputs), seed)

    async def open(self, references: Sequence[Question], task: Task, seed: int) -> Generation:
        """The open seat proposes a question for a task, unlike the references."""
        return await self._propose(self.prompts.open(references, task, self.inputs), seed)

    async def on_topic(self, topic: str, example: Question, seed: int) -> Generation:
        """The open seat proposes a question on a topic, which the example stands for where the prompt shows it."""
        return await self._propose(self.prompts.topic(topic, example, self.inputs), seed)

    async def about_document(self, document: Question, level: Level, seed: int) -> Generation:
        """The open seat proposes a question about a document that is as difficult as the level says."""
        return await self._propose(self.prompts.document(document, level, self.inputs), seed)

    async def _propose(self, prompt: Rendered, seed: int) -> Generation:
        request = self.prompts.request(prompt, 1, seed, self.sampling)
        (reply,) = await self.model.generate([request])
        return record_generation(self.log, request, reply, prompt.template)
