"""Settings that cannot work with the model or on this machine, reported before anything is sampled.

Most checks read files of the model's folder only; those of adapters and gradient checkpointing build the model without weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Final

from events.facts.errors import BadInput
from graph.settings.config import Config
from graph.settings.gguf_folder import is_gguf
from roles.certainty_words import WORDS
from roles.prompt import Prompts
from roles.questions.pocket_folders import POCKET_FOLDERS

MIN_VOTERS: Final = 3
"""Answers of which a majority can differ from all and from one."""
_CONTEXTS: Final = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "seq_length")
"""Keys under which a model's configuration has its context length."""
_GPUS: Final = ("/dev/nvidiactl", "/dev/kfd")
"""Device files of GPUs."""


def refuse_unworkable(config: Config, folder: Path | None, *, plays: bool = True) -> None:
    """Check settings against the model in a folder, or in a GGUF file that is not converted yet, and against this machine.

    Where nothing is played, settings of play are not checked.

    Raises:
        BadInput: the first reason why they cannot work.
    """
    for why in chain(_of_the_machine(config), refusals(config, folder, plays=plays)):
        raise BadInput(why)


def refusals(config: Config, folder: Path | None, *, plays: bool = True) -> Iterator[str]:
    """Reasons why settings cannot work, this machine left aside; fewer if the model is not here yet (`folder` is None)."""
    learn = config.learn
    if plays:
        yield from _of_the_labels(config)
        yield from _of_the_stages(config)
        yield from _of_the_trials(config)
    yield from _of_certainty(config, folder)
    if learn.optimizer == "adamw_8bit" and learn.shard != "none" and not learn.lora.rank:
        yield f"learn.optimizer=adamw_8bit cannot be sharded, as learn.shard={learn.shard} asks; take adamw, or do not shard."
    evaluated = {name for name in ("goalposts", "test", "validation") if getattr(config, name) != "none"}
    if learn.keep_best and learn.keep_best not in evaluated:
        yield (
            f"learn.keep_best={learn.keep_best!r} names no question set that is evaluated; name one of"
            f" {', '.join(sorted(evaluated))}, or none."
        )
    if folder is None and is_gguf(config.model):
        yield from _of_the_file(config)
    elif folder is not None:
        model_config = _read(folder / "config.json")
        yield from _of_the_model(config, folder, model_config)
        yield from _of_the_tokenizer(config, folder, model_config)
        yield from _of_the_layers(config, folder)


def _of_the_labels(config: Config) -> Iterator[str]:
    """Settings that labels of answers, or topics, cannot work with."""
    play, plan, recipe = config.play, config.algorithm().plan, f"recipe {config.recipe}"
    if config.goalposts == "none" and (plan.guided or (plan.real_data and config.practice == "goalposts")):
        yield f"goalposts=none gives {recipe} no goalposts, which it plays towards or on; name a question set."
    if plan.labels != "question" and play.public_pairs:
        yield f"play.public_pairs={play.public_pairs} would show the student the labels that {recipe} finds; set it to 0."
    if plan.labels != "question" and play.tasks != ("induction",):
        yield f'play.tasks={list(play.tasks)} has tasks whose answers {recipe} cannot label; set it to ["induction"].'
    voters = {"vote": ("play.attempts", play.attempts), "informed": ("documents.attempts", config.documents.attempts)}
    name, asked = voters.get(plan.labels, ("", MIN_VOTERS))
    if asked < MIN_VOTERS:
        yield f"{name}={asked} answers hardly have a majority, which {recipe} needs; ask for {MIN_VOTERS}."
    if plan.labels == "truth" and config.goalposts not in POCKET_FOLDERS:
        yield f"The {recipe} needs a world that knows the truth; set goalposts to pocket, or take another recipe."
    yield from _of_the_documents(config)
    if plan.topics and not play.topics:
        yield f"play.topics is empty, and {recipe} writes about topics; name one or more."
    if plan.topics and "topic" not in Prompts.named(config.prompts).templates:
        yield f"The prompt set {config.prompts!r} has no topic.md, which {recipe} asks with; add one, see docs/prompts.md."


def _of_the_documents(config: Config) -> Iterator[str]:
    """Settings that questions about documents cannot work with."""
    plan, recipe, prompts = config.algorithm().plan, f"recipe {config.recipe}", Prompts.named(config.prompts)
    if not plan.documents:
        return
    if config.policies == "shared":
        yield f"policies=shared would teach the student what {recipe} teaches its teacher alone; set it to separate."
    if config.documents.source == "none":
        yield f"documents.source=none names no documents, which {recipe} writes about; name a question set."
    if not config.play.practice:
        yield f"play.practice=0 plays no question of the pool that {recipe} makes; say how many an iteration is to have."
    for name in ("document", "informed"):
        if not prompts.hashes(name):
            yield f"The prompt set {config.prompts!r} has no {name}.md, which {recipe} asks with; add one, see docs/prompts.md."


def _of_the_stages(config: Config) -> Iterator[str]:
    *first, last = config.algorithm().plan.stages
    prompts = Prompts.named(config.prompts)
    if any(stage.texts for stage in (*first, last)) and prompts.rules.stop:
        yield (
            f"The prompt set {config.prompts!r} has thoughts before an answer and {prompts.rules.stop[0]!r} behind it, which"
            f" recipe {config.recipe} does not write; take short, instruct, or one with answer forms."
        )
    has_form = any(template.form for name, template in prompts.templates.items() if name.partition(".")[0] == "induction")
    if has_form and any(stage.texts and stage.texts.refusals for stage in (*first, last)):
        yield (
            f"The prompt set {config.prompts!r} gives the beginning of every answer, so that recipe {config.recipe} could not"
            " refuse one; take a set without answer forms, such as instruct or pocket."
        )
    before = sum(stage.iterations for stage in first)
    if first and config.play.iterations <= before:
        yield (
            f"play.iterations={config.play.iterations} ends before the last stage of recipe {config.recipe} begins; set it to"
            f" {before + 1} or more."
        )


def _of_the_trials(config: Config) -> Iterator[str]:
    """Settings that trials of students cannot work with."""
    plan, recipe, play = config.algorithm().plan, f"recipe {config.recipe}", config.play
    if all(stage.trials is None for stage in plan.stages):
        return
    if config.policies == "shared":
        yield f"policies=shared would try the teacher's weights with the student's; {recipe} needs policies=separate."
    if config.learn.staleness:
        yield f"learn.staleness={config.learn.staleness} plays ahead of the trials that {recipe} waits for; set it to 0."
    if config.learn.epochs > 1:
        yield f"learn.epochs={config.learn.epochs} would multiply the steps of a trial; set it to 1, and trials.steps higher."
    if play.shares > 1:
        yield f"play.shares={play.shares} divides an iteration, and {recipe} tries it as a whole; set it to 1."
    what, episodes = ("play.practice", play.practice) if plan.real_data else ("play.episodes", play.episodes)
    if episodes < config.trials.sets:
        yield f"{what}={episodes} episodes cannot be divided into trials.sets={config.trials.sets} sets; raise {what}."
    name, attempts = ("practice_attempts", play.practice_attempts) if plan.real_data else ("attempts", play.attempts)
    if attempts < 2 * config.trials.students:
        yield (
            f"play.{name}={attempts} attempts leave fewer than two for each of trials.students={config.trials.students}"
            f" students; raise play.{name}."
        )


def few_goalposts(config: Config, count: int) -> Iterator[str]:
    """Why so many goalposts are too few for trials, which would be examined on the same ones again and again."""
    questions = config.trials.questions
    if any(stage.trials for stage in config.algorithm().plan.stages) and count < 2 * questions:
        yield (
            f"The set goalposts={config.goalposts!r} has {count} questions, of which trials draw trials.questions={questions}"
            f" anew each time; give {2 * questions} or more, or lower trials.questions."
        )


def _of_certainty(config: Config, folder: Path | None) -> Iterator[str]:
    """Whether the student can be asked if it is sure."""
    if not config.asks_certainty:
        return
    if "certainty" not in Prompts.named(config.prompts).templates:
        yield f"The prompt set {config.prompts!r} has no certainty.md, which asks for certainty; add one, see docs/prompts.md."
    if folder is None or not (folder / "tokenizer.json").is_file():
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    sure, unsure = (tokenizer.encode(WORDS[certain], add_special_tokens=False).ids for certain in (True, False))
    if sure == unsure or not sure:
        yield (
            f"The tokenizer in {folder} has the same tokens for {WORDS[True]!r} and {WORDS[False]!r}, so that nobody could tell"
            " them apart; take another model, or a recipe and evaluation without certainty."
        )


def _of_the_machine(config: Config) -> Iterator[str]:
    learn, serve = config.learn, config.serve
    if learn.optimizer == "adamw_8bit" and find_spec("bitsandbytes") is None:
        yield "learn.optimizer=adamw_8bit needs bitsandbytes; pip install 'gasp[8bit]', or take adamw."
    here = any(Path(device).exists() for device in _GPUS)
    for name, devices in (("learn.devices", learn.devices), ("serve.devices", serve.devices)):
        if devices and not here and not serve.urls:
            yield f"{name}={devices!r} names GPUs, and there is none here; leave it out."
    if here and learn.devices and learn.processes > len(set(learn.devices.split(","))):
        yield (
            f"learn.processes={learn.processes} needs as many GPUs, and learn.devices={learn.devices!r} names fewer; name more,"
            " or lower learn.processes."
        )
    if not here:
        yield from _of_the_cores(config)


def _of_the_cores(config: Config) -> Iterator[str]:
    """Processes on a CPU: more than two a core would exhaust memory and slow each other down."""
    cores = len(os.sched_getaffinity(0))
    servers = config.serve.replicas if config.serve.backend == "vllm" and not config.serve.urls else 1
    for name, asked in (("learn.processes", config.learn.processes), ("serve.replicas", servers)):
        if asked > 2 * cores:
            yield f"{name}={asked} is more than two for each of the cores here ({cores}), and there is no GPU; lower {name}."


def _of_the_file(config: Config) -> Iterator[str]:
    """Of a GGUF file that is not converted yet."""
    from roles.models.gguf_config import model_config, read_model
    from roles.models.gguf_tokenizer import has_chat_template

    header = read_model(Path(config.model).expanduser())
    yield from _of_the_context(config, model_config(header))
    yield from _of_the_template(config, header.file, has_template=has_chat_template(header))


def _of_the_model(config: Config, folder: Path, model_config: dict[str, Any]) -> Iterator[str]:
    if "quantization_config" in model_config:
        yield f"The weights in {folder} are quantised and cannot be trained; give the original model, in bfloat16."
    yield from _of_the_context(config, model_config)


def _of_the_context(config: Config, model_config: dict[str, Any]) -> Iterator[str]:
    most = max_context(model_config)
    if most is not None and config.window > most:
        asked = f"max_prompt_tokens ({config.max_prompt_tokens}) and max_tokens ({config.max_tokens})"
        yield f"{asked} exceed the model's context of {most} tokens; lower them, or take another model."


def max_context(config: dict[str, Any]) -> int | None:
    """The context length in a model's `config.json`, `rope_scaling` included; None where it has none."""
    config = {**config, **config.get("text_config", {})}
    lengths: list[int] = [config[name] for name in _CONTEXTS if isinstance(config.get(name), int)]
    if not lengths:
        return None
    most = lengths[0]
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    for each in [scaling, *(part for part in scaling.values() if isinstance(part, dict))]:
        factor = each.get("factor")
        if isinstance(factor, int | float):
            most = max(most, int(factor * each.get("original_max_position_embeddings", lengths[0])))
    return most


def _of_the_tokenizer(config: Config, folder: Path, model_config: dict[str, Any]) -> Iterator[str]:
    tokenizer = _read(folder / "tokenizer.json")
    yield from _of_the_template(config, folder, has_template=_has_template(folder))
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    ids = [*vocabulary.values()] if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    ids += [token["id"] for token in tokenizer.get("added_tokens", ())]
    size = {**model_config, **model_config.get("text_config", {})}.get("vocab_size")
    if isinstance(size, int) and ids and max(ids) >= size:
        yield (
            f"The tokenizer in {folder} has token ids up to {max(ids)}, and its model knows {size} tokens; give the tokenizer"
            " that belongs to the model, or enlarge the model's embeddings."
        )


def _of_the_template(config: Config, model: Path, *, has_template: bool) -> Iterator[str]:
    if Prompts.named(config.prompts).system is not None and not has_template:
        yield (
            f"prompts={config.prompts} are conversations, and the tokenizer in {model} has no chat template; set prompts to"
            " one for base models, or model to an instruct model."
        )


def _has_template(folder: Path) -> bool:
    return (folder / "chat_template.jinja").exists() or bool(_read(folder / "tokenizer_config.json").get("chat_template"))


def _of_the_layers(config: Config, folder: Path) -> Iterator[str]:
    learn = config.learn
    if not (learn.lora.rank or learn.gradient_checkpointing) or find_spec("transformers") is None:
        return
    from roles.models.adapter_layers import adapter_objection, model_without_weights

    model = model_without_weights(folder)
    why = adapter_objection(model, learn.lora.modules) if learn.lora.rank else None
    if why is not None:
        yield why
    if learn.gradient_checkpointing and not model.supports_gradient_checkpointing:
        yield f"A {type(model).__name__} does not support learn.gradient_checkpointing; leave it out."


def _read(file: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
