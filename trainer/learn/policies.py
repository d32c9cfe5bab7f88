"""The policies in memory: each with its weights, its loss and its optimizer, as they are under its digest.

Law: what is in memory is what the digest says, or it is not here. Policies that are adapters share their base, and the loss
that is wrapped around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from events.facts.types import PolicyProbed, RunStarted
from events.facts.values import Digest
from events.projections.lineage import POLICY_ROLES, PolicyName
from graph.settings.config import Config
from trainer.data.replay import Cursor
from trainer.learn import checkpoint, weight_probe
from trainer.learn.checkpoint import LoadedWeights
from trainer.learn.loss import PolicyLoss
from trainer.learn.step import Adam
from trainer.parallel.distributed import SINGLE_PROCESS, World


@dataclass
class TrainablePolicy:
    """A policy that can learn."""

    weights: LoadedWeights
    loss: PolicyLoss
    adam: Adam


class PolicyStore:
    """All policies of a run, loaded when they are first asked for."""

    def __init__(self, store: Path, start: RunStarted, config: Config, world: World = SINGLE_PROCESS) -> None:
        self._store = store
        self._start = start
        self._config = config
        self._world = world
        self._held: dict[PolicyName, TrainablePolicy] = {}
        self._bases: dict[Digest, tuple[LoadedWeights, PolicyLoss]] = {}

    def prepare(self, place: Cursor) -> TrainablePolicy:
        """The policy, in memory from now on."""
        held = self._held.get(place.name)
        if held is None or held.weights.digest != place.digest:
            weights, loss = self._load(place.name, place.digest, place.optimizer, self._bases)
            adam = Adam(weights.model, self._config.learn, weights.moments, policy=place.name, taken=place.step)
            held = self._held[place.name] = TrainablePolicy(weights, loss, adam)
        return held

    def take(self, place: Cursor) -> TrainablePolicy:
        """The policy, to be changed: whatever happens, it is not in memory any more until it is saved."""
        pupil = self.prepare(place)
        del self._held[place.name]
        if pupil.weights.adapter is not None:
            pupil.weights.adapter.activate()
        return pupil

    def save(self, place: Cursor, pupil: TrainablePolicy) -> Digest:
        """Write what was learned, and go on from there; the digest of the weights."""
        old = pupil.weights
        self._world.agree(old.model.parameters())
        state = {} if old.adapter else self._world.gather(old.model.state_dict())
        moments = self._world.gather(pupil.adam.moments())
        saved = checkpoint.save(self._store, old.folder, state, moments, old.adapter) if self._world.is_leader else ""
        digest = Digest(self._world.told(saved))
        if digest != place.digest:
            pupil.weights = replace(old, folder=self._store / digest, digest=digest, moments=None)
            self._held[place.name] = pupil
        return digest

    def probe(self, name: PolicyName) -> PolicyProbed:
        """The probe of a policy that was saved; all processes have to ask."""
        found = weight_probe.probe(self._held[name].weights, self._config.learn)
        _free_gpu_cache()
        return found

    def probe_stored(self, name: PolicyName, digest: Digest) -> PolicyProbed:
        """The probe of weights of a policy that need not be in memory, which is sooner there than one that can learn."""
        first, lora = self._first(name), self._config.learn.lora
        weights = checkpoint.load(self._store, first if lora.rank else digest)
        if digest != weights.digest:
            weights = checkpoint.load_adapter(weights, digest, None, policy=name, lora=lora, seed=self._config.seed)
        return weight_probe.probe(weights, self._config.learn)

    def other(self, place: Cursor, digest: Digest) -> PolicyLoss:
        """The loss of other weights than the policy's newest, such as those that sampled."""
        return self._load(place.name, digest, None, {})[1]

    def _load(
        self, name: PolicyName, digest: Digest, optimizer: Digest | None, bases: dict[Digest, tuple[LoadedWeights, PolicyLoss]]
    ) -> tuple[LoadedWeights, PolicyLoss]:
        lora = self._config.learn.lora
        if not lora.rank:
            weights = checkpoint.load(self._store, digest, optimizer)
            return weights, self._loss(name, weights)
        first = self._first(name)
        if first not in bases:
            whole = checkpoint.load(self._store, first)
            bases[first] = whole, self._loss(name, whole)
        base, loss = bases[first]
        weights = checkpoint.load_adapter(base, digest, optimizer, policy=name, lora=lora, seed=self._config.seed)
        assert weights.adapter is not None
        weights.adapter.activate()
        return weights, loss

    def _first(self, name: PolicyName) -> Digest:
        return self._start.policies[POLICY_ROLES[name][0]]

    def _loss(self, name: PolicyName, weights: LoadedWeights) -> PolicyLoss:
        play, settings = self._config.play, self._config.learn
        reference = None
        if settings.kl:
            reference = checkpoint.load(self._store, self._first(name)).model
            self._world.shard(reference)
        self._world.shard(weights.model)
        return PolicyLoss(
            weights.model,
            weights.tokenizer,
            settings,
            seed=self._config.seed,
            folder=self._store,
            longest=max(play.student.max_tokens, play.teacher.max_tokens),
            reference=reference,
        )


def _free_gpu_cache() -> None:
    """Give back what an update needed of a GPU besides weights and moments: a model server may share it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
