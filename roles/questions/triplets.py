"""Programs with inputs and outputs as questions: Absolute Zero's triplets and induction records, and CRUXEval's.

Several arguments are one text (`'a', 20`). Inputs and outputs must be literals, since they are compared by value; records with
other values are unverifiable. Whether a program still gives its output is not checked, since nothing is executed.
"""

from __future__ import annotations

from events.facts.values import IOPair, Question
from events.pure.literal import NotLiteral, outline, outline_arguments
from roles.questions.fields import FieldError, Record
from sandbox.compare import canonical_arguments

STATEMENT = "What does this program return?"
"""The statement of triplets, which have no text of their own."""


class Unverifiable(ValueError):
    """A value is no literal and cannot be compared."""


def azr_question(record: Record) -> Question:
    """A record of AZR: `input` and `output`, or `inputs`, `outputs` and a `message`, the first half of them public.

    Raises:
        FieldError: a field is missing or of the wrong type.
        Unverifiable: an input or output is no literal.
    """
    program = record.text("snippet")
    missing = [line for line in record.texts("imports", []) if line not in program]
    program = "\n".join([*missing, program])
    if "inputs" not in record.values:
        return _triplet(program, record.text("input"), record.text("output"))
    inputs, outputs = record.texts("inputs"), record.texts("outputs")
    if len(inputs) != len(outputs) or not inputs:
        raise FieldError(
            "outputs", f"expected one for each input and at least one, by_arguments {len(outputs)} for {len(inputs)}"
        )
    by_arguments: dict[str, IOPair] = {}
    for pair in map(_pair, inputs, outputs):
        by_arguments.setdefault(canonical_arguments(pair.input), pair)
    pairs = tuple(by_arguments.values())
    half = len(pairs) // 2
    return Question(statement=record.text("message"), program=program, public=pairs[:half], private=pairs[half:])


def cruxeval_question(record: Record) -> Question:
    """A record of CRUXEval.

    Raises:
        FieldError: a field is missing or of the wrong type.
        Unverifiable: its input or output is no literal.
    """
    return _triplet(record.text("code"), record.text("input"), record.text("output"))


def _triplet(program: str, argument: str, output: str) -> Question:
    return Question(statement=STATEMENT, program=program, private=(_pair(argument, output),))


def _pair(argument: str, output: str) -> IOPair:
    for text, reads, what in ((argument, outline_arguments, "input"), (output, outline, "output")):
        try:
            reads(text)
        except NotLiteral as error:
            raise Unverifiable(f"an {what} is no Python literal") from error
    return IOPair(input=argument, output=output)
