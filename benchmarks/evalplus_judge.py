"""EvalPlus's verdicts, in a Python that has `evalplus`: JSON lines on standard input, a verdict a line on standard output.

It is run by `benchmarks.completions` as a script, so it knows the standard library and EvalPlus only. EvalPlus executes the
programs in processes of this machine, without a sandbox.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from evalplus.data.mbpp import mbpp_deserialize_inputs  # type: ignore[import-not-found]  # in a Python of its own
from evalplus.eval import untrusted_check  # type: ignore[import-not-found]  # the same
from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS  # type: ignore[import-not-found]  # the same
from evalplus.gen.util import trusted_exec  # type: ignore[import-not-found]  # the same
from evalplus.sanitize import sanitize  # type: ignore[import-not-found]  # the same

SLOW = 20.0
"""Least seconds of one input, so that load on the machine changes no verdict."""


def verdict(record: dict[str, Any], solutions: list[str]) -> list[bool]:
    """Whether each solution passes the base and the plus tests of a record in EvalPlus's own layout."""
    mbpp, entry = str(record["task_id"]).startswith("Mbpp/"), record["entry_point"]
    passed = [True] * len(solutions)
    for part in ("base_input", "plus_input"):
        inputs = record[part] or []
        inputs = mbpp_deserialize_inputs(record["task_id"], inputs) if mbpp else inputs
        reference = record["canonical_solution"] if mbpp else record["prompt"] + record["canonical_solution"]
        expected, times = trusted_exec(
            reference, inputs, entry, record_time=True, output_not_none=entry in MBPP_OUTPUT_NOT_NONE_TASKS
        )
        for index, solution in enumerate(solutions):
            how = {"atol": record["atol"], "ref_time": times, "fast_check": True, "min_time_limit": SLOW}
            status, _ = untrusted_check("mbpp" if mbpp else "humaneval", solution, inputs, entry, expected, **how)
            passed[index] &= status == "pass"
    return passed


def main() -> None:
    """Write a verdict for every line: whether EvalPlus's own extraction passes, alone and after the context."""
    for line in sys.stdin:
        row = json.loads(line)
        alone = sanitize(row["completion"], row["record"]["entry_point"])
        passed = verdict(row["record"], [alone, f"{row['context']}\n\n{alone}" if row["context"] else alone])
        sys.stdout.write(json.dumps({"alone": passed[0], "with_context": passed[1]}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
