"""EvalPlus's own generation in a Python that has `evalplus` and vLLM: its prompts, its greedy decoding, its sanitizer.

It is run by `benchmarks.evalplus` as a script, so it knows the standard library, EvalPlus and vLLM only. EvalPlus asks for one
completion after the other; here its engine computes those of the next `BATCH` questions together. What was written is not asked
again.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from evalplus import codegen  # type: ignore[import-not-found]  # in a Python of its own
from evalplus.data import get_human_eval_plus, get_mbpp_plus  # type: ignore[import-not-found]  # the same

BATCH = 32


def in_batches(decoder: Any, prompts: list[str]) -> Any:
    """The decoder, whose engine answers a prompt together with those that follow it."""
    generate = decoder.llm.generate
    requests: dict[str, Any] = {}
    answers: dict[str, Any] = {}

    def note(texts: list[str], sampling: Any, **_: object) -> list[Any]:
        requests[texts[0]] = sampling
        return []

    def answer(texts: list[str], *_: object, **__: object) -> list[Any]:
        if texts[0] not in answers:
            order = list(requests)
            batch = order[order.index(texts[0]) :][:BATCH]
            answers.update(zip(batch, generate(batch, [requests[text] for text in batch]), strict=True))
        return [answers[texts[0]]]

    decoder.llm.generate = note
    for prompt in prompts:
        decoder.codegen(prompt.strip() + "\n", do_sample=False, num_samples=1)
    decoder.llm.generate = answer
    return decoder


def main() -> None:
    """Generate as the JSON in the first argument says (model, dataset, folder, base), and write the file's path at the end."""
    job = json.loads(sys.argv[1])
    records = get_human_eval_plus() if job["dataset"] == "humaneval" else get_mbpp_plus()
    make_model = codegen.make_model
    codegen.make_model = lambda **settings: in_batches(make_model(**settings), [row["prompt"] for row in records.values()])
    file = codegen.run_codegen(
        job["model"], job["dataset"], job["folder"], greedy=True, backend="vllm", force_base_prompt=job["base"]
    )
    sys.stdout.write(f"\n{file}\n")


if __name__ == "__main__":
    main()
