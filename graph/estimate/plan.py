"""The report of `--dry-run`: what would be started, sampled and spent, and what looks wrong. It starts and fetches nothing.

python -m graph.estimate.plan configs/*.toml    # updates the estimates inside ready config files
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from events.facts.errors import BadInput
from events.facts.values import Sampling
from events.text.safe_text import printable
from graph.estimate.budget import DISK_BYTES_PER_S, VERDICTS_PER_S, Budget
from graph.estimate.memory import GPUS, gpu_of
from graph.estimate.model_dims import dims_of
from graph.estimate.question_count import question_count
from graph.estimate.settings_warnings import warnings
from graph.estimate.token_estimate import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    SILENT_SHARE,
    count_evaluations,
    count_iterations,
    pool_size,
    real_questions,
    tokens_of_evaluation,
    tokens_of_iteration,
)
from graph.recipes import RECIPES
from graph.recipes.recipe import EpisodePlan
from graph.settings.config import Config
from graph.settings.configure import configure, naming_setting
from graph.settings.gguf_folder import is_gguf
from graph.settings.model_location import local_model_folder
from roles.questions.named_sets import parse_spec
from roles.questions.pocket_folders import POCKET_FOLDERS
from roles.questions.question_set import Split

_MARKS: Final = re.compile(
    r"(?P<begin>^# estimates for (?P<gpu>\w+): begin \(made by `make drawn`\)\n)(#.*\n)*?(?P<end># estimates: end$)",
    re.MULTILINE,
)


def plan(config: Config, gpu: str | None = None, price: float | None = None) -> list[str]:
    """The lines of the report, for a kind of GPU and its price in US dollars an hour, both assumed if None.

    Raises:
        BadInput: there is no such GPU or question set.
    """
    return [printable(line) for line in _lines(config, gpu, price)]


def _lines(config: Config, gpu: str | None, price: float | None) -> Iterator[str]:
    yield "What would run; nothing was started. Figures are arithmetic on assumptions (docs/estimates.md), not measurements."
    budget = why = None
    try:
        budget = _budget(config, gpu, price)
    except BadInput as error:
        if gpu is not None and gpu not in GPUS:
            raise
        why = str(error)
    yield from _what(config)
    yield from _work(config)
    if budget is None:
        yield f"estimates     none: {why}"
    else:
        yield from _where(budget)
        yield from estimates(budget)
    yield from (f"warning: {warning}" for warning in warnings(config, budget))


def _budget(config: Config, gpu: str | None, price: float | None) -> Budget:
    dims = dims_of(config.model)
    kind = gpu_of(gpu, dims)
    return Budget(config, dims, kind if price is None else replace(kind, price=price))


def _what(config: Config) -> Iterator[str]:
    yield f"model         {config.model}, {_whence(config.model)}"
    yield f"recipe        {config.recipe}: {RECIPES[config.recipe].__doc__}"
    stages = config.algorithm().plan.stages
    practice: tuple[str, Split] = (
        (config.goalposts, "goalposts") if config.practice == "goalposts" else (config.practice, "train")
    )
    yield f"goalposts     {_counted('goalposts', config.goalposts, 'goalposts')}"
    trained_on = any(stage.uses_real_questions or stage.references or stage.topics for stage in stages)
    yield f"practice      {_counted('practice', *practice) if trained_on else 'none'}"
    if any(stage.documents for stage in stages):
        yield f"documents     {_counted('documents.source', config.documents.source, 'documents')}"
    yield f"test          {_counted('test', config.test, 'test')}"
    yield f"validation    {_counted('validation', config.validation, 'validation')}"
    rank = config.learn.lora.rank
    trained = f"adapters of rank {rank} on the linear layers are" if rank else "all weights are"
    whose = "one policy plays teacher and student" if config.policies == "shared" else "teacher and student are two policies"
    yield f"policies      {whose}; {trained} trained, with learning rate {config.learn.learning_rate:g}"
    yield f"prompts       {config.prompts}, up to {config.max_prompt_tokens} tokens"
    for name, how in (
        ("student", config.play.student.sampling),
        ("teacher", config.play.teacher.sampling),
        ("evaluation", config.evaluate.sampling),
    ):
        yield f"{name:<13} {_sampled(how)}"


def _whence(model: str) -> str:
    try:
        folder = local_model_folder(model)
    except BadInput as error:
        return str(error)
    if is_gguf(model):
        return "a GGUF file: dequantised to float32 when the run starts"
    if model in POCKET_FOLDERS:
        return "which ships with the project"
    return "of the hub, not in the local cache: fetched when the run starts" if folder is None else f"from {folder}"


def _counted(setting: str, spec: str, split: Split) -> str:
    with naming_setting(setting):
        return _count_of(spec, split)


def _count_of(spec: str, split: Split) -> str:
    if spec == "none":
        return "none"
    count = question_count(spec, split)
    if count is not None:
        return f"{spec}: {count} questions"
    return f"{spec}: {'of the hub, ' if parse_spec(spec, split).place is None else ''}read when the run starts"


def _sampled(how: Sampling) -> str:
    stop = f", stopped by {len(how.stop)} texts" if how.stop else ""
    return f"temperature {how.temperature:g}, top_p {how.top_p:g}, up to {how.max_tokens} tokens{stop}"


def _work(config: Config) -> Iterator[str]:
    usual, most, exam = tokens_of_iteration(config), tokens_of_iteration(config, most=True), tokens_of_evaluation(config)
    count = f"{count_iterations(config)}"
    if config.play.samples:
        count += f" of at most {config.play.iterations}, until {config.play.samples:,} samples of the student"
    yield f"iterations    {count}, {', then '.join(_stage(config, stage) for stage in config.algorithm().plan.stages)}"
    yield (
        f"an iteration  {usual.completions:,.0f} completions ({_count(usual.tokens)} tokens), {usual.learned:,.0f} of them"
        f" trained on; at most {most.completions:,.0f} ({_count(most.tokens)} tokens)"
    )
    yield (
        f"evaluations   {count_evaluations(config)} of up to {config.evaluate.questions} questions a set,"
        f" {config.evaluate.attempts} attempts each: {exam.completions:,.0f} completions ({_count(exam.tokens)} tokens)"
    )


def _stage(config: Config, stage: EpisodePlan) -> str:
    """What an iteration of a stage has."""
    many = f"{stage.iterations} of them with" if stage.then else "each with"
    if stage.survey is not None:
        each = f"{stage.survey.attempts} answer{'s' if stage.survey.attempts > 1 else ''} each"
        return f"{many} {real_questions(config)} real questions, {each} at temperature {stage.survey.temperature:g}"
    if stage.texts is not None:
        return f"{many} {real_questions(config)} texts to learn"
    if stage.pools is not None:
        return f"{many} up to {pool_size(config)} episodes, whose questions are the pool"
    if stage.plays_pool:
        return f"{many} {min(config.play.practice, pool_size(config))} questions of the pool"
    real = f"{real_questions(config)} real questions" if stage.real_data else ""
    proposed = f"{config.play.episodes} episodes" if stage.guided or stage.seats("unguided") else ""
    if stage.trials is None:
        return f"{many} {' and '.join(filter(None, (proposed, real)))}"
    episodes = real or proposed
    tried = config.trials
    students = f"{tried.students} student{'s' if tried.students > 1 else ''} of up to {tried.steps} steps each"
    return f"{many} {episodes} in {tried.sets} sets, and a trial of {students} on every set, on {tried.questions} goalposts"


def _where(budget: Budget) -> Iterator[str]:
    config, memory = budget.config, budget.memory
    serve, learn = config.serve, config.learn
    kind = "core" if budget.gpu.name == "CPU" else "GPU"
    each = " | ".join(f"{kind} {', '.join(gpus)}" for gpus in memory.server_gpus)
    if serve.backend == "transformers":
        yield f"sampling      in this process by transformers, {serve.dtype}: {each}"
    elif serve.urls:
        yield f"sampling      by vLLM servers that run already: {' '.join(serve.urls)}"
    else:
        sleep = ", asleep while learning" if serve.sleep else ""
        adapters = ", with adapters" if learn.lora.rank else ""
        for number in range(memory.fleets):
            whose = f" {number + 1}" if memory.fleets > 1 else ""
            yield f"{'servers' + whose:<13} {len(memory.server_gpus)} x vLLM, {serve.dtype}{adapters}{sleep}: {each}"
    shard = "" if learn.shard == "none" else f", weights sharded ({learn.shard})"
    how = f"{learn.processes} processes{shard}" if learn.processes > 1 else "1 process"
    yield f"trainer       {how}, {learn.precision}: {kind} {', '.join(memory.trainer_gpus)}; gasp train RUN --follow"
    cached = f"keys and values of {_count(memory.cached)} tokens each"
    yield f"cache         {cached}; a prompt and its completion have up to {config.window}"


def estimates(budget: Budget) -> Iterator[str]:
    """The lines on memory, time, cost and disk."""
    config, memory, gpu = budget.config, budget.memory, budget.gpu
    count, name = len(memory.gpus), gpu.name
    needed = max(map(memory.needed, memory.gpus))
    what = "main memory" if name == "CPU" else f"the fullest of {count} {name}" if count > 1 else f"the {name}"
    yield f"memory        {_gb(needed)} of {_gb(gpu.memory)} of {what}: {'fits' if memory.fits else 'DOES NOT FIT'}"
    yield (
        f"              training {_gb(memory.trainer)} a process ({_gb(memory.resident)} stay), sampling {_gb(memory.server)} a"
        f" {'process' if config.serve.backend == 'transformers' else 'server and GPU'}"
    )
    if name != "CPU":
        yield f"              and {_gb(memory.main_memory)} of main memory"
    hours = budget.hours()
    evaluating, most = budget.evaluation_hours(), budget.hours(most=True)
    yield f"time          {_hours(hours)}, of which evaluations {_hours(evaluating)}; at most {_hours(most)}"
    if gpu.price:
        spent = hours * count
        cost = f"{_round(spent)} GPU-hours, {_round(spent * gpu.price)} US dollars"
        yield f"cost          {cost} at {gpu.price:.2f} an hour and {name}"
    yield f"disk          {_gb(budget.disk)}, of which an update's weights and moments {_gb(budget.saved)}"
    lengths = f"{PROMPT_TOKENS} tokens a prompt, or a quarter of what is allowed, and {COMPLETION_TOKENS} a completion, or half"
    yield f"assumed       {lengths};"
    yield f"              {SILENT_SHARE:.0%} of the student's groups teach nothing; {VERDICTS_PER_S:g} verdicts a second;"
    yield (
        f"              {gpu.learning_mfu:.0%} of the peak in training, {gpu.sampling_mfu:.0%} in sampling;"
        f" {DISK_BYTES_PER_S / 1e9:g} GB/s of disk"
    )


def _gb(value: float) -> str:
    return f"{value / 1e9:.3g} GB"


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _hours(value: float) -> str:
    return f"{_round(value)} h" if value >= 1 else f"{60 * value:.0f} min"


def _count(value: float) -> str:
    return f"{value / 1e6:,.3g} M" if value >= 1e6 else f"{value:,.0f}"


def intended_gpu(text: str) -> str | None:
    """The kind of GPU that a config file names in its estimates; None where it has none."""
    match = _MARKS.search(text)
    return match and match["gpu"]


def with_estimates(file: Path) -> str:
    """The text of a config file with its estimates updated; BadInput if it has no marks, or is no config file."""
    text = file.read_text()
    gpu = intended_gpu(text)
    if gpu is None:
        raise BadInput(f"{file} has no marks for estimates; add `# estimates for GPU: begin (made by `make drawn`)` and `end`.")
    lines = [f"# {line}\n" for line in estimates(_budget(configure(file, []), gpu, None))]
    return _MARKS.sub(lambda match: match["begin"] + "".join(lines) + match["end"], text)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_estimates(path))
