"""The teacher: one role, two seats. The easy seat writes lemmas, the hard seat writes lifts.

Law: the easy seat is shown the goalpost; the hard seat is shown the lemma and never the goalpost, so that difficulty grows from
the student's frontier (paper, section 3.1). It does not judge its proposals.
"""

from __future__ import annotations

from dataclasses import dataclass

from events.log import Log
from events.values import Axis, Generation, Question, Sampling, Seat
from roles.model import Model, Request
from roles.parse import INPUTS
from roles.prompt import Prompts
from roles.record import record


@dataclass(frozen=True)
class Teacher:
    """Proposes variants of a question."""

    model: Model
    prompts: Prompts
    log: Log
    sampling: Sampling
    inputs: int = INPUTS
    """How many inputs a proposal must have."""

    async def propose(self, seat: Seat, axis: Axis, parent: Question, seed: int) -> Generation:
        """One proposal. `parent` is the goalpost for the easy seat, the lemma for the hard one.

        Raises:
            ModelError: the model failed.
        """
        ask = self.prompts.easy if seat == "easy" else self.prompts.hard
        prompt = ask(parent, axis, self.inputs)
        request = Request(prompt.text, 1, seed, self.prompts.stopping(self.sampling), self.prompts.system)
        (reply,) = await self.model.generate([request])
        return record(self.log, request, reply, prompt.template)
