"""Programs with inputs and outputs as questions: Absolute Zero's triplets and induction records, and CRUXEval's.

Several arguments are one text (`'a', 20`). Values are compared as values, so both must be literals: what is cut short, or names
an object or a call, can be asked about but not be judged. Whether a program still gives its output nobody knows without running
it, and nothing is run here.
"""

from __future__ import annotations

from events.facts.values import IOPair, Question
from events.pure.literal import NotLiteral, outline, outline_arguments
from roles.questions.fields import FieldError, Record
from sandbox.compare import canonical_arguments

STATEMENT = "What does this program return?"
"""Triplets come without words: they ask for an output or an input of a program that is shown."""


class Unverifiable(ValueError):
    """A value that is no literal, so that nothing could be compared with it."""


def azr_question(record: Record) -> Question:
    """A record of AZR: `input` and `output`, or `inputs`, `outputs` and a `message`, the first half of them public.

    Raises:
        Wrong: a field is missing or of the wrong type.
        Unverifiable: an input or output is no literal.
    """
    program = record.text("snippet")
    missing = [line for line in record.texts("imports", []) if line not in program]
    program = "\n".join([*missing, program])
    if "inputs" not in record.values:
        return _triplet(program, record.text("input"), record.text("output"))
    inputs, outputs = record.texts("inputs"), record.texts("outputs")
    if len(inputs) != len(outputs) or not inputs:
        raise FieldError("outputs", f"expected one for each input and at least one, found {len(outputs)} for {len(inputs)}")
    found: dict[str, IOPair] = {}
    for pair in map(_pair, inputs, outputs):
        found.setdefault(canonical_arguments(pair.input), pair)
    pairs = tuple(found.values())
    half = len(pairs) // 2
    return Question(statement=record.text("message"), program=program, public=pairs[:half], private=pairs[half:])


def cruxeval_question(record: Record) -> Question:
    """A record of CRUXEval.

    Raises:
        Wrong: a field is missing or of the wrong type.
        Unverifiable: its input or output is no literal.
    """
    return _triplet(record.text("code"), record.text("input"), record.text("output"))


def _triplet(program: str, given: str, output: str) -> Question:
    return Question(statement=STATEMENT, program=program, private=(_pair(given, output),))


def _pair(given: str, output: str) -> IOPair:
    for text, reads, what in ((given, outline_arguments, "input"), (output, outline, "output")):
        try:
            reads(text)
        except NotLiteral as error:
            raise Unverifiable(f"an {what} is no Python literal") from error
    return IOPair(input=given, output=output)
