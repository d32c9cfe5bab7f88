"""LiveCodeBench's code-generation records as questions.

Record fields as in the benchmark's release files. Private tests are base64(zlib(pickle(JSON text))): the pickle holds one
string, which is read off its opcodes, so that nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import binascii
import json
import pickletools
import zlib
from typing import Any

from events.values import Pair, Question

LARGEST = 256 * 2**20
"""Bytes of decoded private tests; a larger record is refused (a bomb, not a test)."""
TEXT_OPCODES = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
HARMLESS_OPCODES = TEXT_OPCODES | {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"}


def question_of(record: dict[str, Any]) -> Question:
    """One record as a question.

    Raises:
        ValueError: a field is missing, of the wrong type, or does not decode.
    """
    content = _text(record, "question_content")
    metadata = json.loads(_text(record, "metadata") or "{}")
    starter = _text(record, "starter_code") if "starter_code" in record else ""
    public = _tests(json.loads(_text(record, "public_test_cases")), "public_test_cases")
    private = _tests(_private(record.get("private_test_cases")), "private_test_cases")
    if not public + private:
        raise ValueError("field private_test_cases: the record has no test at all, so nothing could be verified")
    function = metadata.get("func_name")
    return Question(
        statement=f"{content}\n\n{starter}".strip(),
        entry=f"Solution.{function}" if function else "f",
        mode="function" if function else "stdin",
        public=tuple(public) if private else (),
        private=tuple(private or public),
    )


def _text(record: dict[str, Any], field: str) -> str:
    value = record.get(field)
    if not isinstance(value, str):
        raise ValueError(f"field {field}: expected text, found {type(value).__name__}")
    return value


def _private(value: Any) -> Any:
    if value is None:
        return []
    if not isinstance(value, str):
        raise ValueError(f"field private_test_cases: expected text, found {type(value).__name__}")
    if value.lstrip().startswith("["):
        return json.loads(value)
    try:
        inflate = zlib.decompressobj()
        packed = inflate.decompress(base64.b64decode(value, validate=True), LARGEST)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"field private_test_cases: does not decode ({error})") from error
    if inflate.unconsumed_tail:
        raise ValueError(f"field private_test_cases: decodes to more than {LARGEST} bytes")
    return json.loads(text_in_pickle(packed))


def text_in_pickle(packed: bytes) -> str:
    """The one string that a pickle holds, read off its opcodes without executing it.

    Raises:
        ValueError: it holds anything else.
    """
    found: list[str] = []
    for opcode, argument, _ in pickletools.genops(packed):
        if opcode.name not in HARMLESS_OPCODES:
            raise ValueError(f"field private_test_cases: the pickle holds more than one text (opcode {opcode.name}), refused")
        if opcode.name in TEXT_OPCODES:
            found.append(str(argument))
    if len(found) != 1:
        raise ValueError(f"field private_test_cases: the pickle holds {len(found)} texts instead of one, refused")
    return found[0]


def _tests(tests: Any, field: str) -> list[Pair]:
    if not isinstance(tests, list):
        raise ValueError(f"field {field}: expected a list of tests, found {type(tests).__name__}")
    return [_pair(test, field) for test in tests]


def _pair(test: Any, field: str) -> Pair:
    if not isinstance(test, dict) or not all(isinstance(test.get(key), str) for key in ("input", "output", "testtype")):
        raise ValueError(f"field {field}: a test needs the texts input, output and testtype")
    if test["testtype"] == "stdin":
        return Pair(input=test["input"], output=test["output"])
    arguments = [repr(json.loads(line)) for line in test["input"].split("\n") if line.strip()]
    return Pair(input=", ".join(arguments), output=repr(json.loads(test["output"])))
