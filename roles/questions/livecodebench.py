"""LiveCodeBench's code-generation records as questions.

Fields as in the benchmark's release files. Private tests are base64(zlib(pickle(JSON text))). The pickle holds one string, and
is read by its opcodes; nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import pickletools
import zlib
from typing import Any, Final

from events.facts.values import IOPair, Question
from events.pure.literal import NotLiteral, TooLarge, write
from roles.judging.syntax_tree import parse_source
from roles.questions.fields import FieldError, Record, decode_json, json_type

LARGEST: Final = 256 << 20
"""Largest private tests of a record, in bytes when decoded; more is a decompression bomb."""
RELEASES: Final = ("test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl", "test6.jsonl")
"""The hub's files; release vN consists of the first N."""
PAPER: Final = {
    "train": {"before": "2024-08-01", "release": "v5"},
    "test": {"after": "2024-10-01", "before": "2025-02-01", "release": "v6"},
}
"""The splits of arXiv 2603.15957, section 4: everything before August 2024, and its evaluation window."""
TEXT_OPCODES = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
HARMLESS_OPCODES = TEXT_OPCODES | {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"}
MOST_OPCODES = 16
"""Most opcodes that are read of a pickle; real ones have five or six."""


def question_of(record: Record, *, public_will_do: bool = False) -> Question:
    """One record as a question; FieldError if a field is missing, of the wrong type, or does not decode.

    With `public_will_do`, public tests are used as private ones where there are none.
    """
    content = record.text("question_content")
    metadata = decode_json(record.text("metadata") or "{}", "metadata")
    function = metadata.get("func_name") if isinstance(metadata, dict) else metadata
    if not isinstance(function, str | None) or function == "":
        raise FieldError("metadata", "expected the JSON of an object, with the text func_name where a function is asked for")
    wanted = "functional" if function else "stdin"
    public = _tests(decode_json(record.text("public_test_cases"), "public_test_cases"), "public_test_cases", wanted)
    private = _tests(_private(record.values.get("private_test_cases")), "private_test_cases", wanted)
    if not public + private:
        raise FieldError("private_test_cases", "the record has no test at all, so nothing could be verified")
    if not (private or public_will_do):
        raise FieldError("private_test_cases", "none, and without tests=public the public ones do not judge alone")
    return Question(
        statement=f"{content}\n\n{record.text('starter_code', '')}".strip(),
        entry=f"Solution.{function}" if function else "f",
        mode="function" if function else "stdin",
        public=tuple(public) if private else (),
        private=tuple(private or public),
        context=_imports(record.text("starter_code", "")),
    )


def _imports(starter: str) -> str:
    lines = [line.rstrip() for line in starter.split("\n")]
    imports = "\n".join(line for line in lines if line.startswith(("import ", "from ")))
    return imports if parse_source(imports) is not None else ""


def _private(value: Any) -> Any:
    field = "private_test_cases"
    if value is None:
        return []
    if not isinstance(value, str):
        raise FieldError(field, f"expected text, found {json_type(value)}")
    if value.lstrip().startswith("["):
        return decode_json(value, field)
    inflate = zlib.decompressobj()
    try:
        packed = inflate.decompress(base64.b64decode(value, validate=True), LARGEST)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise FieldError(field, f"does not decode ({error})") from error
    if inflate.unconsumed_tail or not inflate.eof:
        raise FieldError(field, f"decodes to more than {LARGEST >> 20} MiB, or is cut short")
    return decode_json(text_in_pickle(packed), field)


def text_in_pickle(packed: bytes) -> str:
    """The one string that a pickle holds, read off its opcodes without executing it; FieldError if it holds anything else."""
    field = "private_test_cases"
    texts: list[str] = []
    try:
        for opcode, argument, _ in itertools.islice(pickletools.genops(packed), MOST_OPCODES):
            if opcode.name not in HARMLESS_OPCODES:
                raise FieldError(field, f"the pickle holds more than one text (opcode {opcode.name}), refused")
            if opcode.name in TEXT_OPCODES:
                texts.append(str(argument))
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(field, f"holds no whole pickle ({error})") from error
    if len(texts) != 1:
        raise FieldError(field, f"the pickle holds {len(texts)} texts instead of one, refused")
    return texts[0]


def _tests(tests: Any, field: str, wanted: str) -> list[IOPair]:
    if not isinstance(tests, list):
        raise FieldError(field, f"expected a list of tests, found {json_type(tests)}")
    return [_pair(test, field, wanted) for test in tests]


def _pair(test: Any, field: str, wanted: str) -> IOPair:
    if not isinstance(test, dict) or not all(isinstance(test.get(key), str) for key in ("input", "output", "testtype")):
        raise FieldError(field, "a test needs the texts input, output and testtype")
    if test["testtype"] != wanted:
        raise FieldError(field, f"expected tests of type {wanted}, as metadata says, found another")
    if wanted == "stdin":
        return IOPair(input=test["input"], output=test["output"])
    arguments = [_literal(line, field) for line in test["input"].split("\n") if line.strip()]
    return IOPair(input=", ".join(arguments), output=_literal(test["output"], field))


def _literal(text: str, field: str) -> str:
    try:
        return write(decode_json(text, field), LARGEST)
    except (NotLiteral, TooLarge) as error:
        raise FieldError(field, f"a test has no Python literal ({error})") from error
