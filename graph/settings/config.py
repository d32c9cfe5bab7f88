"""The settings of a run: one typed tree with defaults; unknown keys are errors.

Guarantees: the resolved tree is the first event of a run's log, and nothing else configures the run: no environment variables.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from events.facts.values import Role, Sampling, Task
from events.pure.advantages import EstimatorName
from graph.recipes import RECIPES
from graph.recipes.recipe import CERTAINTY_TOKENS, Recipe
from graph.recipes.rewards import RewardSettings, SettingsGroup
from graph.settings.document_settings import DocumentSettings
from graph.settings.number_types import MOST, Natural, PositiveFloat, PositiveInt, check_number_types
from graph.settings.recipe_settings import with_document_iterations, with_recipe_settings
from graph.settings.serve_settings import ServeSettings
from graph.settings.trial_settings import TrialSettings
from graph.settings.upcast import upcast


class TrainingSampling(SettingsGroup):
    """How completions that are trained on are sampled: from the whole distribution, since others have no usable logprobs."""

    temperature: Annotated[float, Field(ge=0.001, le=1_000)] = 1.0
    """Divides the logits [paper: 1]."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Most tokens of one completion, end token included."""

    @property
    def sampling(self) -> Sampling:
        """The same as events record it."""
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens)


class PlaySettings(SettingsGroup):
    """How an iteration is played. Numbers marked [paper] are GASP's; the others are open there and chosen here."""

    order: Literal["lockstep", "concurrent"] = "lockstep"
    """How episodes are scheduled. `lockstep`: calls go out together once every episode waits, so that equal runs have equal
    logs. `concurrent`: calls go out as they come, which keeps servers busy; the order of events then depends on timing."""
    iterations: Natural = 40
    """Iterations of play and learning [paper: about 50]; an upper bound where `samples` is set."""
    samples: Annotated[int, Field(ge=0, le=10**15)] = 0
    """Completions of the student, evaluations left out, after which no further iteration starts, so that recipes get equal
    budgets; 0: `iterations` alone decides."""
    shares: Annotated[int, Field(ge=1, le=1_000, exclude_if=lambda shares: shares == 1)] = 1
    """Parts that the episodes of an iteration and the questions of an evaluation are divided into, so that several players can
    play a run; see docs/scaling.md. Episodes of different shares are not batched together."""
    patience_s: Annotated[float, Field(ge=0.1, le=86_400, exclude_if=lambda seconds: seconds == 600)] = 600
    """Seconds without an event after which the coordinator plays a share that another player has claimed."""
    episodes: Annotated[int, Field(ge=0, le=10_000)] = 16
    """Self-play episodes an iteration: each from one goalpost, drawn uniformly without replacement, or unguided."""
    attempts: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Attempts that measure the pass rate of a proposal [paper: 10]."""
    gap_attempts: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Attempts at its goalpost with which a guided episode begins; they are not trained on."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """Proposals that each seat of the teacher may make in one episode until one is accepted."""
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = ("induction", "deduction", "abduction")
    """Tasks in which the student learns from accepted questions; one is drawn uniformly for each [paper: all three]."""
    solve_attempts: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Attempts at a lemma or lift whose task is deduction or abduction; for induction the pass-rate attempts suffice."""
    practice: Annotated[int, Field(ge=0, le=100_000)] = 24
    """Real questions an iteration (real-data RL), drawn uniformly from the training set."""
    practice_attempts: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Attempts at each real question [paper: 8]."""
    pairs: Annotated[int, Field(ge=2, le=100)] = 5
    """Input/output pairs of a proposed question [paper: 5]."""
    public_pairs: Annotated[int, Field(ge=0, le=99)] = 2
    """How many of these the student is shown, fewer than `pairs` [paper: 2]."""
    topics: tuple[Annotated[str, Field(min_length=1)], ...] = ("a list", "a word", "a number", "rows of numbers")
    """What the open seat is asked to write about, in turn, by recipes that show it no references."""
    solved_at: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Pass rate at which a goalpost counts as solved, so that its episode ends without a lemma."""
    student: TrainingSampling = TrainingSampling(max_tokens=96)
    """How the student's attempts are sampled."""
    teacher: TrainingSampling = TrainingSampling(max_tokens=224)
    """How the teacher's proposals are sampled."""

    @model_validator(mode="after")
    def _hides_a_pair(self) -> Self:
        if self.public_pairs >= self.pairs:
            raise ValueError(f"public_pairs ({self.public_pairs}) must be fewer than pairs ({self.pairs})")
        return self


class VerifySettings(SettingsGroup):
    """How proposals are validated and attempts judged."""

    similarity: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Cosine similarity to an accepted question above which a proposal is not novel [paper: 0.95]. What it means depends on
    `embedding`, see docs/proposals.md."""
    embedding: str = "ngrams"
    """What similarity is measured in: `ngrams`, or the folder of an encoder such as all-MiniLM-L6-v2."""
    rules: Literal["auto", "own", "livecodebench", "evalplus"] = "auto"
    """How programs are run and outputs compared, see docs/verdicts.md. `auto`: as the question's benchmark does, and our `own`
    rules for questions of no benchmark."""
    ties: Literal["none", "first"] = "none"
    """The label where the two largest groups of voting answers are equal: none, or that of the group that came first."""
    wall_seconds: Annotated[float, Field(ge=0.1, le=86_400)] = 6.0
    """Wall-clock limit in seconds of one program on all its inputs, or on each if `per_test` [LiveCodeBench: 6 a test]; waiting
    for a busy core does not count (docs/verdicts.md)."""
    per_test: bool = False
    """Whether each test of an attempt has time and memory of its own, and the first failure skips the others."""
    memory_mb: Annotated[int, Field(ge=32, le=1_000_000)] = 256
    """Memory limit of one program, in MiB."""
    output_kb: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Most that a program may print or return for one input, in KiB; questions that need more are left out before play."""
    workers: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Sandbox containers; 0: one for each CPU core."""
    runtime: str = ""
    """Container runtime by its name in the Docker engine, such as gVisor's `runsc`; empty: the engine's default."""


class LoraSettings(SettingsGroup):
    """Low-rank adapters on the run's first weights, which stay as they are (arXiv 2106.09685)."""

    rank: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Rank of the adapters; 0: no adapters, all weights are trained."""
    alpha: PositiveFloat = 32.0
    """The adapter's output is scaled by `alpha` / `rank`."""
    modules: tuple[str, ...] = ()
    """Names of the linear layers that get an adapter, such as `q_proj`; empty: all but the output head."""


class LearnSettings(SettingsGroup):
    """How the trainer updates weights."""

    learning_rate: Annotated[float, Field(gt=0, le=10)] = 3e-4
    """Learning rate after warm-up [paper: 1e-6 for 7B weights; tiny models need more]."""
    teacher_learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    """Learning rate of the teacher where it has weights of its own; unset: `learning_rate`."""
    warm_up: Natural = 10
    """Optimizer steps over which the learning rate rises from 0; none if the model comes with optimizer state."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after warm-up; `linear` and `cosine` fall to 0."""
    schedule_steps: PositiveInt = 160
    """Optimizer steps after which it is 0; an iteration has one for each of up to four phases, or see `groups_per_step`."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit`: moments of one byte each, by bitsandbytes (`pip install gasp[8bit]`)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of forward and backward passes; weights, gradients and losses are float32."""
    gradient_checkpointing: bool = False
    """Whether activations inside layers are computed twice instead of kept: less memory, and prompts are not shared."""
    lora: LoraSettings = LoraSettings()
    """Adapters instead of all weights."""
    credit: Literal["recipe", EstimatorName] = "recipe"
    """How rewards become advantages; `recipe`: as the recipe does."""
    filter_silent: bool = False
    """Whether zero-advantage groups are left out of the loss's averages too (DAPO's dynamic sampling)."""
    loss: Literal["dapo", "grpo", "dr_grpo", "cispo", "sapo", "gspo"] = "dapo"
    """TRL's loss of this name, normalised over the whole step batch; so `bnpo` would be `dapo`."""
    clip: PositiveFloat = 0.2
    """The ratio p / p_old is clipped at 1 - `clip` [GSPO: 3e-4]; `sapo` damps it softly instead."""
    clip_high: PositiveFloat | None = None
    """The ratio is clipped at 1 + `clip_high` [DAPO: 0.28, GSPO: 4e-4, CISPO: 4]; unset: `clip`."""
    delta: Annotated[float, Field(gt=1, le=MOST)] | None = None
    """Upper bound of the ratio where the advantage is negative, above 1 + `clip_high`; unset: none. Not for `cispo`, `sapo`."""
    kl: Annotated[float, Field(ge=0, le=MOST)] = 0.0
    """Coefficient of the KL divergence to the run's first weights; above 0 they stay in memory beside the policy."""
    entropy: Annotated[float, Field(ge=0, le=MOST)] = 0.0
    """Coefficient of the entropy bonus [AZR: 0.001]."""
    importance: Literal["none", "truncate", "mask"] = "none"
    """`none`: p_old is the sampler's. Otherwise p_old is the policy's before the step, so nothing is clipped, and each token is
    weighted by p_old / p_sampled."""
    importance_cap: Annotated[float, Field(ge=1, le=MOST)] = 2.0
    """Importance weights above this are cut to it (`truncate`), or their tokens are left out (`mask`)."""
    max_grad_norm: PositiveFloat = 1.0
    """The norm of the gradient is clipped to this."""
    batch_tokens: Annotated[int, Field(ge=512, le=MOST)] | None = None
    """Most padded tokens of one forward pass; gradients are accumulated over passes. Unset: 2048 for large models on a CPU,
    else 16384."""
    staleness: Natural = 0
    """Iterations that play may be ahead of learning: iteration n is played with the weights after n - 1 - `staleness`."""
    drift: PositiveFloat | None = None
    """Largest logprob mismatch of a token between sampler and trainer, in nats; above it the trainer stops. Unset: 0.02 where
    `precision` and `serve.dtype` are float32, else 2."""
    epochs: Annotated[int, Field(ge=1, le=1_000)] = 1
    """Passes over the completions of an iteration; after the first they are off-policy, see `importance`."""
    groups_per_step: Natural = 0
    """Most groups, or given texts, that one optimizer step learns from [R-Tuning: 4]: a phase with more takes several steps, of
    nearly equal sizes; after the first they are off-policy, see `importance`. 0: a phase is one step."""
    teacher_scale: Annotated[float, Field(ge=0, le=MOST)] = 1.0
    """Factor on the teacher's advantages; at 0 the teacher is never updated."""
    teaches_every: Natural = 1
    """The teacher learns from every so many iterations [SQLM: 5], the student from all; 0: never."""
    processes: Annotated[int, Field(ge=1, le=1_000)] = 1
    """Training processes, each with a GPU of its own where there are any (data parallelism)."""
    shard: Literal["none", "zero2", "zero3"] = "none"
    """What the processes shard, by FSDP2: nothing, gradients and optimizer state (ZeRO-2), or weights too (ZeRO-3)."""
    devices: str = ""
    """Numbers of the GPUs for training, such as `2,3`, dealt out to the processes in turn; empty: all that are visible."""
    keep: PositiveInt = 2
    """Newest weights of each policy that are kept on disk, besides the first and those in use."""
    keep_every: Natural = 0
    """Also keep the weights of every so many iterations; 0: none."""
    keep_best: str = ""
    """Also keep the weights with the best pass@1 on the evaluated question set of this name, such as `test`; empty: none."""

    def rate_of(self, policy: str) -> float:
        """The learning rate of a policy."""
        own = self.teacher_learning_rate if policy == "teacher" else None
        return self.learning_rate if own is None else own

    @property
    def ratio_cap(self) -> float:
        """The ratio p / p_old above which it is clipped."""
        return 1 + (self.clip if self.clip_high is None else self.clip_high)

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if self.delta is not None and self.delta <= self.ratio_cap:
            raise ValueError(f"delta ({self.delta}) must be above 1 + clip_high ({self.ratio_cap})")
        if self.delta is not None and self.loss in ("cispo", "sapo"):
            raise ValueError(f"delta ({self.delta}) means nothing to the loss {self.loss}; leave it unset")
        if self.shard != "none" and self.processes == 1:
            raise ValueError(f"shard ({self.shard}) needs processes above 1")
        return self


class EvaluateSettings(SettingsGroup):
    """How progress is evaluated."""

    questions: PositiveInt = 100
    """Questions of each set, at most."""
    attempts: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Attempts at each question; pass@k needs at least k."""
    first: bool = True
    """Whether a run's first weights are evaluated. Many runs that start from the same weights need this once."""
    every: Natural = 0
    """Iterations between evaluations; 0: at the start and the end only."""
    every_samples: Annotated[int, Field(ge=0, le=10**15)] = 0
    """Completions of the student, as `play.samples` counts them, between evaluations; 0: they do not matter."""
    certainty: bool = False
    """Whether the student is also asked if it is sure of its answers, see docs/certainty.md."""
    sampling: Sampling = Sampling(temperature=0.6, max_tokens=96)
    """How attempts are sampled [paper: temperature 0.6]."""

    @model_validator(mode="after")
    def _can_be_sampled(self) -> Self:
        if self.sampling.max_tokens > 10**6 or not (
            self.sampling.temperature == 0 or 0.001 <= self.sampling.temperature <= 1000
        ):
            raise ValueError("sampling.temperature must be 0 or from 0.001 to 1000, and sampling.max_tokens at most 1000000")
        return self


class Config(BaseSettings):
    """The whole run."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: Annotated[int, Field(ge=0)] = 0
    """Every random choice of the run derives from it."""
    recipe: str = "gasp_real"
    """The algorithm by name, see docs/recipes.md."""
    model: str = "pocket"
    """`pocket`, `pocket2`, `pocket3`, a folder with a causal LM in Hugging Face format, a GGUF file, which is dequantised, or a
    name of the hub, such as `Qwen/Qwen2.5-Coder-7B` or `Qwen/Qwen2.5-Coder-7B@REVISION`; see docs/models.md."""
    prompts: str = "pocket"
    """Prompt set: `base`, `instruct`, `short`, `completion`, `pocket`, `pocket2` or `pocket3`, or a folder of your own."""
    policies: Literal["shared", "separate"] = "shared"
    """Whether teacher and student share weights [paper: shared]."""
    max_prompt_tokens: Annotated[int, Field(ge=16, le=10_000_000)] = 256
    """Longer prompts are cut from the left; questions whose prompt is longer are left out before play."""
    threads: Annotated[int, Field(ge=0, le=1_000)] = 0
    """CPU threads of each process that samples or trains; 0: one for small models, else the cores. Other numbers change the
    last bits of weights and logprobs."""
    goalposts: str = "pocket2"
    """Question set, see docs/questions.md: `pocket2`, a JSONL file, or a benchmark (`livecodebench?paper=train`); or `none`
    for recipes that play without."""
    practice: str = "pocket"
    """Question set for real-data RL, and of the open seat's first references; or `goalposts`."""
    test: str = "pocket"
    """Held-out question set, or `none`."""
    validation: str = "none"
    """Held-out question set to choose weights by, so that `test` decides nothing; or `none`."""
    documents: DocumentSettings = DocumentSettings()
    """How questions about documents are written and labelled."""
    serve: ServeSettings = ServeSettings()
    """What samples completions, and on which devices."""
    play: PlaySettings = PlaySettings()
    """How an iteration is played."""
    verify: VerifySettings = VerifySettings()
    """How proposals are validated and attempts judged."""
    trials: Annotated[TrialSettings, Field(exclude_if=lambda trials: trials == TrialSettings())] = TrialSettings()
    """How sets of questions are tried on the student."""
    rewards: RewardSettings = RewardSettings()
    """Rewards that the paper leaves open."""
    learn: LearnSettings = LearnSettings()
    """How the trainer updates weights."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """How progress is evaluated."""

    @model_validator(mode="before")
    @classmethod
    def _has_numbers_for_numbers(cls, tree: object) -> object:
        check_number_types(cls, tree)
        return with_recipe_settings(tree) if isinstance(tree, dict) else tree

    def algorithm(self) -> Recipe:
        """The recipe that `recipe` names, with these rewards and lengths of stages."""
        return with_document_iterations(RECIPES[self.recipe](self.rewards), self.documents.iterations)

    @classmethod
    def recorded(cls, tree: dict[str, Any]) -> Self:
        """The settings in the first event of a log of any version; ValidationError for a setting that no version had."""
        return cls(**upcast(tree))

    @field_validator("recipe")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in RECIPES:
            raise ValueError(f"there is no recipe {name!r}; take one of {', '.join(RECIPES)}")
        return name

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is passed in, then the TOML file if a subclass names one; no environment, no dotenv, no secrets folder."""
        return (init_settings, TomlConfigSettingsSource(settings_cls))

    @model_validator(mode="after")
    def _can_be_served(self) -> Self:
        serve = self.serve
        if serve.backend == "transformers" and self.play.order == "concurrent":
            raise ValueError("play.order = concurrent needs serve.backend = vllm: else calls that come one by one are no batch")
        if serve.backend == "transformers" and serve.urls:
            raise ValueError("serve.urls needs serve.backend = vllm")
        if serve.urls and self.policies == "separate" and not self.learn.lora.rank:
            raise ValueError("serve.urls can hold one set of whole weights: take policies = shared, or learn.lora, or no urls")
        return self

    @property
    def max_tokens(self) -> int:
        """Most tokens that a completion may have."""
        return max(self.play.student.max_tokens, self.play.teacher.max_tokens, self.evaluate.sampling.max_tokens)

    @property
    def asks_certainty(self) -> bool:
        """Whether the student is asked, or learns to say, if it is sure of its answers."""
        texts = (stage.texts for stage in self.algorithm().plan.stages)
        return self.evaluate.certainty or any(given is not None and given.says_certainty for given in texts)

    @property
    def window(self) -> int:
        """Most tokens of prompt and completion, and of what is said behind an answer."""
        answer = max(self.play.student.max_tokens, self.evaluate.sampling.max_tokens)
        return self.max_prompt_tokens + max(self.max_tokens, answer + CERTAINTY_TOKENS if self.asks_certainty else 0)

    @property
    def exact(self) -> bool:
        """Whether sampling and learning both compute in float32."""
        return self.serve.dtype == self.learn.precision == "float32"

    @property
    def repeatable(self) -> bool:
        """Whether an equal batch gives equal samples: servers make their own batches."""
        return self.serve.backend == "transformers"

    @property
    def mismatch_limit(self) -> float:
        """What `learn.drift` is."""
        return self.learn.drift or (0.02 if self.exact else 2.0)

    @property
    def policy_of(self) -> dict[Role, str]:
        """Name of the policy that each role plays with."""
        shared = self.policies == "shared"
        return {"teacher": "shared" if shared else "teacher", "student": "shared" if shared else "student"}
