"""The solver: the student's attempts at questions.

Guarantees: it sees the statement and the public test cases, and no private one, except for the half of one test case that
deduction (its input) and abduction (its output) show. Where there is a document, it sees that only if it is given.
Not responsible for: judging its attempts (`roles.verifier`).
"""

from __future__ import annotations

from dataclasses import dataclass

from events.facts.log import Log
from events.facts.values import Generation, Question, Sampling, Task
from roles.generation_record import record_generation
from roles.model import Model
from roles.prompt import Prompts, Rendered


@dataclass(frozen=True)
class Solver:
    """Answers in one of the three task forms."""

    model: Model
    prompts: Prompts
    log: Log

    async def answer(
        self,
        question: Question,
        task: Task,
        pair: int | None,
        *,
        count: int,
        seed: int,
        sampling: Sampling,
        hides_pairs: bool = False,
        document: Question | None = None,
    ) -> Generation:
        """Sample attempts; `pair`: index into `question.pairs` for deduction and abduction, None for induction.

        With `hides_pairs`, induction shows the statement alone; with a `document`, the statement and the document.
        """
        if document is not None:
            prompt = self.prompts.informed(question, document)
        else:
            prompt = self.prompts.unpaired(question) if hides_pairs else self._prompt(question, task, pair)
        request = self.prompts.request(prompt, count, seed, sampling)
        (reply,) = await self.model.generate([request])
        return record_generation(self.log, request, reply, prompt.template)

    def _prompt(self, question: Question, task: Task, pair: int | None) -> Rendered:
        if task == "induction":
            return self.prompts.induction(question)
        assert pair is not None, f"{task} asks about one pair"
        ask = self.prompts.deduction if task == "deduction" else self.prompts.abduction
        return ask(question.program_with_context or "", question.pairs[pair])
