"""The settings of a run: one typed tree with defaults; unknown keys are errors.

Guarantees: the resolved tree is the first event of a run's log, and nothing else configures the run: no environment variables.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from events.facts.values import Role, Sampling, Task
from graph.recipes import RECIPES
from graph.recipes.recipe import Recipe
from graph.recipes.rewards import RewardSettings, SettingsGroup
from graph.settings.bounds import check_bounds, check_number_types


class PlaySettings(SettingsGroup):
    """How an iteration is played. Numbers marked [paper] are GASP's; the others are open there and chosen here."""

    order: Literal["lockstep", "concurrent"] = "lockstep"
    """How episodes are scheduled. `lockstep`: calls go out together once every episode waits, so that equal runs have equal
    logs. `concurrent`: calls go out as they come, which keeps servers busy; the order of events then depends on timing."""
    iterations: Annotated[int, Field(ge=0)] = 40
    """Iterations of play and learning [paper: about 50]; at most so many where `samples` is set."""
    samples: Annotated[int, Field(ge=0)] = 0
    """Completions of the student, examinations left out, after which no further iteration starts, so that recipes are given
    the same; 0: `iterations` alone decides."""
    episodes: Annotated[int, Field(ge=0)] = 16
    """Guided episodes an iteration, each from one goalpost drawn uniformly without replacement; or unguided ones."""
    attempts: Annotated[int, Field(ge=1)] = 10
    """Attempts that measure a pass rate [paper: N = 10]."""
    gap_attempts: Annotated[int, Field(ge=1)] = 10
    """Attempts at its goalpost with which a guided episode begins; nothing is learned from them."""
    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Proposals a teacher's seat may make in one episode before it is exhausted."""
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = ("induction", "deduction", "abduction")
    """Forms in which the student learns from what is accepted, drawn uniformly for each question; open questions are proposed
    for one of them [paper: all three]."""
    solve_attempts: Annotated[int, Field(ge=1)] = 4
    """Answers to a lemma or lift that was turned into deduction or abduction; induction keeps its pass-rate attempts."""
    practice: Annotated[int, Field(ge=0)] = 24
    """Real questions an iteration, drawn uniformly from the training set (real-data RL)."""
    practice_attempts: Annotated[int, Field(ge=2)] = 8
    """Answers a real question [paper: 8]."""
    pairs: Annotated[int, Field(ge=2)] = 5
    """Input/output pairs of a proposed question [paper: 5]."""
    public_pairs: Annotated[int, Field(ge=0)] = 2
    """How many of them the student is shown [paper: 2]."""
    solved_at: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Pass rate at which a goalpost counts as closed, so that its episode ends without a lemma."""
    student: Sampling = Sampling(max_tokens=96)
    """How answers are sampled [paper: T = 1]."""
    teacher: Sampling = Sampling(max_tokens=224)
    """How proposals are sampled [paper: T = 1]."""

    @model_validator(mode="after")
    def _can_be_learned_from(self) -> Self:
        if self.public_pairs >= self.pairs:
            raise ValueError(f"public_pairs ({self.public_pairs}) must be fewer than pairs ({self.pairs})")
        if any(how.temperature == 0 or how.top_p != 1 for how in (self.student, self.teacher)):
            raise ValueError("student and teacher need a temperature above 0 and top_p 1, else nothing can be learned")
        return self


class ServeSettings(SettingsGroup):
    """Who samples, and on what."""

    backend: Literal["transformers", "vllm"] = "transformers"
    """`transformers`: in this process; `vllm`: one or more OpenAI-compatible vLLM servers."""
    urls: tuple[str, ...] = ()
    """Servers that run already, such as `http://gpu-1:8000`, all with the same model; empty: they are started with the run
    and stopped with it."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """Servers to start for each set of weights, which share its requests (data parallelism)."""
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    """GPUs of one server."""
    devices: str = ""
    """GPUs for sampling by number, such as `0,1`, dealt out to the servers in turn; empty: all that are seen."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What sampling computes in."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory that a server takes."""
    kv_cache_gib: Annotated[float, Field(gt=0, le=65536)] = 1.0
    """GiB of main memory for the keys and values of a server on a CPU; how many answers it writes at once follows from it."""
    context: Annotated[int, Field(ge=0)] = 0
    """Most tokens of prompt and completion together; 0: as many as the settings for both allow."""
    in_flight: Annotated[int, Field(ge=1)] = 256
    """Most requests that one server is asked at once; the others wait here."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds without any sign of life, an answer to `/health` included, after which a server is given up. A slow one is
    waited for and told of."""
    start_s: Annotated[float, Field(gt=0)] = 900.0
    """Seconds in which a server that starts may neither log nor compute anything before it is given up."""
    sleep: bool = False
    """Let servers give their GPU's memory to the trainer while it learns."""


class VerifySettings(SettingsGroup):
    """What a question and an answer must withstand."""

    similarity: Annotated[float, Field(gt=0, le=1)] = 0.95
    """A proposal whose cosine similarity to an accepted one is above this is not novel [paper: 0.95]."""
    embedding: str = "ngrams"
    """What similarity is measured in: `ngrams`, or a folder with an encoder in Hugging Face format."""
    distinct: Annotated[int, Field(ge=1)] = 3
    """Fewest different outputs that a question's pairs must have; fewer is degenerate."""
    rules: Literal["auto", "own", "livecodebench", "evalplus"] = "auto"
    """How answers are run and compared, see docs/verdicts.md. `auto`: as its benchmark does where a question is of one, else by
    our `own` rules."""
    wall_seconds: Annotated[float, Field(gt=0)] = 6.0
    """Wall-clock limit of one program on all its inputs, or on each [LiveCodeBench: 6 a test]."""
    per_test: bool = False
    """Whether each test of an answer has time and memory for itself, and the first that fails ends them."""
    memory_mb: Annotated[int, Field(ge=32)] = 256
    """Memory limit of one program."""
    output_kb: Annotated[int, Field(ge=1)] = 64
    """Most that a program may print or return for one input, in KiB; tests that expect more are left out before play."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Sandbox containers; 0 takes one a core."""
    runtime: str = ""
    """Container runtime by the engine's name for it, such as gVisor's `runsc`; empty: the engine's default."""


class LoraSettings(SettingsGroup):
    """Whether policies are low-rank adapters on the run's first weights (arXiv 2106.09685), which stay as they are."""

    rank: Annotated[int, Field(ge=0)] = 0
    """Rank of the adapters; 0: none, all weights are trained."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """What an adapter adds is scaled by `alpha` / `rank`."""
    modules: tuple[str, ...] = ()
    """Names of the linear layers that get one, such as `q_proj`; empty: all but the output head."""


class LearnSettings(SettingsGroup):
    """How the trainer updates weights."""

    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """The optimizer's, once warm [paper: 1e-6 for 7B weights; tiny models need more]."""
    teacher_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """The teacher's, where it has weights of its own; unset: the same."""
    warm_up: Annotated[int, Field(ge=0)] = 10
    """Steps over which the learning rate of a cold optimizer rises; carried moments are warm already."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes on; `linear` and `cosine` fall to 0."""
    schedule_steps: Annotated[int, Field(ge=1)] = 160
    """Optimizer steps of a policy until then; an iteration has up to four."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit`: with moments of a byte each, by bitsandbytes (`pip install gasp[8bit]`)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What forward and backward compute in; weights, gradients and losses are float32."""
    gradient_checkpointing: bool = False
    """Keep no activations inside layers and compute them again: less memory, and every completion reads its prompt anew."""
    lora: LoraSettings = LoraSettings()
    """Adapters instead of whole weights."""
    credit: Literal[
        "recipe", "grpo", "dr_grpo", "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "trr_plus_plus"
    ] = "recipe"
    """How rewards become advantages; `recipe`: as the recipe does."""
    filter_silent: bool = False
    """Leave groups without signal out of the averages too, as DAPO's dynamic sampling does."""
    loss: Literal["dapo", "grpo", "dr_grpo", "cispo", "sapo", "gspo"] = "dapo"
    """TRL's loss, by name; normalised over the whole lesson, so that `bnpo` would be `dapo`."""
    clip: Annotated[float, Field(gt=0)] = 0.2
    """The ratio p / p_old counts down to 1 - `clip` [GSPO: 3e-4]; `sapo` damps it softly instead."""
    clip_high: Annotated[float, Field(gt=0)] | None = None
    """... and up to 1 + `clip_high` [DAPO: 0.28, GSPO: 4e-4, CISPO: 4]; unset: `clip`."""
    delta: Annotated[float, Field(gt=1)] | None = None
    """Cap of the ratio where the advantage is negative, above 1 + `clip_high`, for losses that clip; unset: none."""
    kl: Annotated[float, Field(ge=0)] = 0.0
    """Coefficient of the KL divergence to the run's first weights; above 0 they stay loaded beside the policy."""
    entropy: Annotated[float, Field(ge=0)] = 0.0
    """Coefficient of the entropy bonus [AZR: 0.001]."""
    importance: Literal["none", "truncate", "mask"] = "none"
    """`none`: p_old is what sampled. Else it is the policy before the step: nothing is clipped then, and p_old / p_sampled
    weighs each token."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """Larger weights are cut to this (`truncate`) or their tokens left out (`mask`)."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient norm is clipped to this."""
    batch_tokens: Annotated[int, Field(ge=512)] | None = None
    """Most padded tokens of one forward pass; gradients are accumulated over passes. Unset: 2048 for a model of real size on a
    CPU, where more are slower, else 16384."""
    staleness: Annotated[int, Field(ge=0)] = 0
    """Iterations that play may be ahead of learning: iteration n is played with the weights after n - 1 - `staleness`."""
    drift: Annotated[float, Field(gt=0)] | None = None
    """Most nats that a token's logprob may differ from what the weights that sampled it find again; unset: 0.02 where
    `precision` and `serve.dtype` are float32, else 2."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """Times that each iteration is learned; above 1 its samples are older weights' by then, see `importance`."""
    teacher_scale: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the teacher's advantages; 0 never updates the teacher."""
    processes: Annotated[int, Field(ge=1)] = 1
    """Processes that make an update together, each with a GPU of its own where there are any."""
    shard: Literal["none", "zero2", "zero3"] = "none"
    """What of the weights is in parts among them: nothing, or what ZeRO's stage 2 or 3 says (FSDP2)."""
    devices: str = ""
    """GPUs for learning by number, such as `2,3`, dealt out to the processes in turn; empty: all that are seen."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Newest weights of each policy kept on disk, besides the first and those in use."""
    keep_every: Annotated[int, Field(ge=0)] = 0
    """Weights of every so many iterations are kept too; 0: of none."""
    keep_best: str = ""
    """... and those with the best pass@1 on the examined question set of this name, such as `test`; empty: none."""

    def rate_of(self, policy: str) -> float:
        """The learning rate of a policy."""
        own = self.teacher_learning_rate if policy == "teacher" else None
        return self.learning_rate if own is None else own

    @property
    def ratio_cap(self) -> float:
        """The largest ratio that counts."""
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
    """How progress is examined."""

    questions: Annotated[int, Field(ge=1)] = 100
    """Most questions of each set."""
    attempts: Annotated[int, Field(ge=1)] = 20
    """Answers a question; pass@k needs at least k."""
    first: bool = True
    """Whether the weights that a run begins with are examined. Where many runs begin with the same, one examination will do."""
    every: Annotated[int, Field(ge=0)] = 0
    """Iterations between examinations; 0 examines at the start and the end only."""
    every_samples: Annotated[int, Field(ge=0)] = 0
    """... and completions of the student, as `play.samples` counts them: examined after the iteration that completes another so
    many; 0: not by them."""
    sampling: Sampling = Sampling(temperature=0.6, max_tokens=96)
    """How answers are sampled [paper: T = 0.6]."""


class Config(BaseSettings):
    """The whole run."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: Annotated[int, Field(ge=0)] = 0
    """Every random choice of the run derives from it."""
    recipe: str = "gasp_real"
    """The algorithm, by name: docs/recipes.md."""
    model: str = "pocket"
    """`pocket`, a folder with a causal LM in Hugging Face format, or a name of the hub, such as `Qwen/Qwen2.5-Coder-7B` or
    `Qwen/Qwen2.5-Coder-7B@REVISION`."""
    prompts: str = "pocket"
    """Prompt set: a folder name under `roles/prompts/`, or a path."""
    policies: Literal["shared", "separate"] = "shared"
    """Whether teacher and student share weights [paper: shared]."""
    max_prompt_tokens: Annotated[int, Field(ge=16)] = 256
    """Longer prompts are cut from the left; questions whose own prompt is longer are left out before play."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of each process that samples or learns; 0: one for small models, else the cores. Other numbers change the
    last bits of weights and logprobs."""
    goalposts: str = "pocket"
    """Question set, see docs/questions.md: `pocket`, a JSONL file, or a benchmark such as `livecodebench?paper=train`."""
    practice: str = "pocket"
    """Training questions for real-data RL, and what the open seat is shown first: a question set, or `goalposts`."""
    test: str = "pocket"
    """Held-out questions: a question set, or `none`."""
    validation: str = "none"
    """Held-out questions to choose weights by, so that `test` decides nothing: a question set, or `none`."""
    serve: ServeSettings = ServeSettings()
    """Who samples, and on what."""
    play: PlaySettings = PlaySettings()
    """How an iteration is played."""
    verify: VerifySettings = VerifySettings()
    """What a question and an answer must withstand."""
    rewards: RewardSettings = RewardSettings()
    """Rewards that the paper leaves open."""
    learn: LearnSettings = LearnSettings()
    """How the trainer updates weights."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """How progress is examined."""

    @model_validator(mode="before")
    @classmethod
    def _has_numbers_for_numbers(cls, tree: object) -> object:
        check_number_types(cls, tree)
        return tree

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        check_bounds(self)
        return self

    def algorithm(self) -> Recipe:
        """The recipe that `recipe` names, with these rewards."""
        return RECIPES[self.recipe](self.rewards)

    @classmethod
    def recorded(cls, tree: dict[str, Any]) -> Self:
        """The settings in the first event of a log, whichever version wrote it.

        Raises:
            ValidationError: it has a setting that no version had.
        """
        tree = copy.deepcopy(tree)
        serve, play = tree.get("serve", {}), tree.get("play", {})
        if "memory" in serve:
            # One number once stood for both, by the machine that the servers ran on.
            memory = serve.pop("memory")
            tree["serve"] = {"gpu_memory": memory, "kv_cache_gib": memory, **serve}
        if play.get("order") == "free":
            play["order"] = "concurrent"
        return cls(**tree)

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
        serve, most = self.serve, self.max_prompt_tokens + self.max_tokens
        if serve.backend == "transformers" and self.play.order == "concurrent":
            raise ValueError(
                "play.order = concurrent needs serve.backend = vllm: without it, calls that come one by one are no batch"
            )
        if serve.backend == "transformers" and serve.urls:
            raise ValueError("serve.urls needs serve.backend = vllm")
        if serve.urls and self.policies == "separate" and not self.learn.lora.rank:
            raise ValueError("serve.urls can hold one set of whole weights: take policies = shared, or learn.lora, or no urls")
        if serve.context and serve.context < most:
            raise ValueError(f"serve.context ({serve.context}) does not hold max_prompt_tokens and max_tokens ({most})")
        return self

    @property
    def max_tokens(self) -> int:
        """Most tokens that a completion may have."""
        return max(self.play.student.max_tokens, self.play.teacher.max_tokens, self.evaluate.sampling.max_tokens)

    @property
    def window(self) -> int:
        """Most tokens of prompt and completion."""
        return self.serve.context or self.max_prompt_tokens + self.max_tokens

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
        if self.policies == "shared":
            return {"teacher": "shared", "student": "shared"}
        return {"teacher": "teacher", "student": "student"}
