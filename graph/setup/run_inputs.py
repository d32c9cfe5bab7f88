"""What a run reads from files: question sets, documents, prompts, the embedding and the first weights.

Guarantees: wrong input is reported here, before anything starts. Questions that no attempt could pass are left out, and named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from events.cli.output import print_note
from events.facts.errors import BadInput
from events.facts.values import Digest, GgufFile, JudgingRules, Question, QuestionId
from events.facts.weights import weights_digest
from graph.settings.config import Config
from graph.settings.configure import naming_setting
from graph.settings.gguf_folder import gguf_source, is_gguf
from graph.settings.model_location import model_folder
from graph.settings.refusals import few_goalposts, refuse_unworkable
from graph.settings.seeds import seeded_rng
from roles.judging.similarity import Embedding, embedding
from roles.prompt import Prompts
from roles.questions.load import load_questions
from roles.questions.passable import PromptWindow, passable
from roles.questions.question_set import QuestionList, QuestionSet, Split


@dataclass(frozen=True)
class RunInputs:
    """Everything that a run reads from files; read and checked before anything starts.

    `model` is found only on access: a resumed run has weights of its own.
    """

    spec: str
    goalposts: QuestionSet
    practice: tuple[Question, ...]
    test: tuple[Question, ...]
    validation: tuple[Question, ...]
    rules: Mapping[QuestionId, JudgingRules]
    """Judging rules of those questions that have rules of their own."""
    prompts: Prompts
    embedding: Embedding
    examples: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)
    """Training questions on each topic that the teacher writes about."""
    documents: tuple[Question, ...] = ()
    """What the teacher writes about."""
    asks_certainty: bool = False
    """Whether the student is asked if it is sure."""

    @cached_property
    def model(self) -> Path:
        """The folder of the first weights."""
        return model_folder(self.spec)

    @cached_property
    def digest(self) -> Digest:
        """The digest of the first weights."""
        return weights_digest(self.model)

    @property
    def dequantised(self) -> GgufFile | None:
        """The GGUF file that the first weights come from, if they do."""
        return gguf_source(self.spec, self.model)

    def digests(self) -> dict[str, str]:
        """SHA-256 (hex) of each input, by name, so that a resumed run is sure to have the same."""
        sets = {"goalposts": self.goalposts.questions, "practice": self.practice, "test": self.test}
        # Logs from before this setting have no digest of it.
        sets |= {"validation": self.validation} if self.validation else {}
        ids = {name: "".join(question.id for question in questions) for name, questions in sets.items()}
        digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in ids.items()}
        digests["prompts"] = self.prompts.digest
        if self.examples:
            on_topics = {topic: [question.id for question in questions] for topic, questions in self.examples.items()}
            text = json.dumps([self.prompts.hashes("unpaired", "topic"), on_topics])
            digests["topics"] = hashlib.sha256(text.encode()).hexdigest()
        if self.documents:
            text = json.dumps([self.prompts.hashes("document", "informed"), [question.id for question in self.documents]])
            digests["documents"] = hashlib.sha256(text.encode()).hexdigest()
        if self.asks_certainty:
            (digests["certainty"],) = self.prompts.hashes("certainty").values()
        return digests if self.embedding.digest is None else {**digests, "embedding": self.embedding.digest}


def read_inputs(config: Config, weights: Path | None = None) -> RunInputs:
    """The inputs that a config names; the tokenizer is in `weights`, else in `model`. BadInput if one cannot be read."""
    if weights is None and is_gguf(config.model):
        # Before the minutes that dequantising a large model takes.
        refuse_unworkable(config, None)

    def load(use: Literal["goalposts", "practice", "test", "validation"], split: Split) -> QuestionSet:
        spec: str = getattr(config, use)
        if spec == "none" and use != "practice":
            return QuestionList("none", ())
        with naming_setting(use):
            questions = load_questions(spec, split)
        return passable_questions(config, questions, use, lambda: weights or model_folder(config.model))

    goalposts = load("goalposts", "goalposts")
    _check_examined(config, goalposts)
    practice = goalposts if config.practice == "goalposts" else load("practice", "train")
    test, validation = load("test", "test"), load("validation", "validation")
    return RunInputs(
        spec=config.model,
        goalposts=goalposts,
        practice=_training(config, practice),
        test=test.questions,
        validation=validation.questions,
        rules={**validation.rules, **test.rules, **practice.rules, **goalposts.rules},
        prompts=Prompts.named(config.prompts),
        embedding=embedding(config.verify.embedding),
        examples=_examples(config, practice) if config.algorithm().plan.topics else {},
        documents=_documents(config, lambda: weights or model_folder(config.model)),
        asks_certainty=config.asks_certainty,
    )


def passable_questions(config: Config, questions: QuestionSet, use: str, weights: Callable[[], Path]) -> QuestionSet:
    """The questions that can be passed under a run's settings, the others named on standard error; BadInput if none can."""
    return passable(
        questions,
        use,
        config.verify.output_kb,
        PromptWindow(Prompts.named(config.prompts), config.max_prompt_tokens, weights),
        print_note,
    )


def _check_examined(config: Config, goalposts: QuestionSet) -> None:
    """Refuse trials that would be examined on the same few goalposts again and again."""
    for why in few_goalposts(config, len(goalposts.questions)):
        raise BadInput(why)


def _training(config: Config, questions: QuestionSet) -> tuple[Question, ...]:
    """The training questions that the plan uses: all, a sample of those with a program, or none."""
    plan = config.algorithm().plan
    if any(stage.texts for stage in plan.stages):
        return _with_programs(config, questions)
    if not plan.references:
        return tuple(questions.questions) if plan.real_data else ()
    seeds = [question for question in questions.questions if question.program is not None and question.mode == "function"]
    if not seeds:
        raise BadInput(
            f"The recipe {config.recipe} shows its teacher programs of training questions, and none of {config.practice!r}"
            " has a function as its program; set practice to questions that have."
        )
    return tuple(seeded_rng(config.seed, "seeds").sample(seeds, min(plan.seeds, len(seeds))))


def _with_programs(config: Config, questions: QuestionSet) -> tuple[Question, ...]:
    """The training questions that have a program, which the student is given to learn."""
    having = tuple(question for question in questions.questions if question.program is not None)
    if not having:
        raise BadInput(
            f"The recipe {config.recipe} teaches the programs of training questions, and none of {config.practice!r} has one;"
            " set practice to questions that have."
        )
    if lacking := len(questions.questions) - len(having):
        print_note(f"practice: {lacking} of {len(questions.questions)} questions have no program to learn; they are left out.")
    return having


def _examples(config: Config, questions: QuestionSet) -> dict[str, tuple[Question, ...]]:
    """Training questions that mention each topic; where the prompt shows no example and none mentions it, all of them."""
    shown = Prompts.named(config.prompts).topic_shows_an_example
    pool = [question for question in questions.questions if question.mode == "function" and (question.program or not shown)]
    examples: dict[str, tuple[Question, ...]] = {}
    for topic in config.play.topics:
        on_topic = tuple(question for question in pool if topic.lower() in question.statement.lower())
        if not pool or (shown and not on_topic):
            raise BadInput(
                f"No training question of {config.practice!r} has a function as its program and mentions {topic!r}, of which"
                f" the prompts {config.prompts} show an example; change play.topics, or practice."
            )
        examples[topic] = on_topic or tuple(pool)
    return examples


def _documents(config: Config, weights: Callable[[], Path]) -> tuple[Question, ...]:
    """The documents that the plan has questions about; BadInput if all are too long for the prompts that show them."""
    if not any(stage.documents for stage in config.algorithm().plan.stages):
        return ()
    source, prompts = config.documents.source, Prompts.named(config.prompts)
    with naming_setting("documents.source"):
        loaded = load_questions(source, "documents").questions
    window = PromptWindow(prompts, config.max_prompt_tokens, weights, lambda document: prompts.document(document, "medium"))
    fitting = tuple(document for document in loaded if window.exceeded(document) is None)
    if not fitting:
        raise BadInput(
            f"Every document of {source!r} makes a prompt of more than max_prompt_tokens={config.max_prompt_tokens}, and would"
            " be cut; raise it, or set documents.source to shorter ones."
        )
    if cut := len(loaded) - len(fitting):
        print_note(f"documents.source: {cut} of {len(loaded)} documents are too long for max_prompt_tokens; they are left out.")
    return fitting
