"""Policy store: the policies of a run in memory, each with its weights, loss and optimizer.

Guarantees: a policy in memory has the weights of its digest. Policies that are adapters share their base and its loss.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from pathlib import Path

from events.facts.types import PolicyProbed, RunStarted
from events.facts.values import Digest
from events.process.process_memory import release_memory
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
    """A policy that is loaded for training."""

    weights: LoadedWeights
    loss: PolicyLoss
    adam: Adam


class PolicyStore:
    """All policies of a run, loaded when first used."""

    def __init__(self, store: Path, start: RunStarted, config: Config, world: World = SINGLE_PROCESS) -> None:
        self._store = store
        self._start = start
        self._config = config
        self._world = world
        self._loaded: dict[PolicyName, TrainablePolicy] = {}
        self._bases: dict[Digest, tuple[LoadedWeights, PolicyLoss]] = {}

    def load(self, cursor: Cursor) -> TrainablePolicy:
        """The policy at a cursor, which stays in memory."""
        policy = self._loaded.get(cursor.name)
        if policy is not None and policy.weights.digest != cursor.digest:
            # First, so that memory holds them no longer than the next ones need it.
            policy = None
            del self._loaded[cursor.name]
            _collect_models()
        if policy is None:
            weights, loss = self._load(cursor.name, cursor.digest, cursor.optimizer, self._bases)
            adam = Adam(weights.model, self._config.learn, weights.moments, policy=cursor.name, taken=cursor.step)
            policy = self._loaded[cursor.name] = TrainablePolicy(weights, loss, adam)
        return policy

    def check_out(self, cursor: Cursor) -> TrainablePolicy:
        """The policy, to be changed; it leaves the store until it is saved, so that a failed update cannot stay in memory."""
        policy = self.load(cursor)
        del self._loaded[cursor.name]
        if policy.weights.adapter is not None:
            policy.weights.adapter.activate()
        return policy

    def save(self, cursor: Cursor, policy: TrainablePolicy) -> Digest:
        """Write changed weights and put the policy back; returns their digest, that of the cursor if nothing changed."""
        old = policy.weights
        # An adapter that still adds nothing is the base, and would have a digest of its own.
        if old.adapter is not None and cursor.digest == old.adapter.base and old.adapter.adds_nothing():
            return cursor.digest
        # Replicated weights that drift apart would train on silently; a difference shows here, before anything is written.
        self._world.check_equal(old.model.parameters())
        state = {} if old.adapter else self._world.gather(old.model.state_dict())
        moments = self._world.gather(policy.adam.moments())
        saved = checkpoint.save(self._store, old.folder, state, moments, old.adapter) if self._world.is_leader else ""
        digest = Digest(self._world.broadcast(saved))
        if digest != cursor.digest:
            policy.weights = replace(old, folder=self._store / digest, digest=digest, moments=None)
            self._loaded[cursor.name] = policy
        return digest

    def probe(self, name: PolicyName) -> PolicyProbed:
        """Probe a policy that was saved; all processes have to call it."""
        probed = weight_probe.probe(self._loaded[name].weights, self._config.learn)
        _free_memory()
        return probed

    def probe_stored(self, name: PolicyName, digest: Digest) -> PolicyProbed:
        """Probe weights on disk, without the time and memory that loss and optimizer need."""
        first, lora = self._first(name), self._config.learn.lora
        weights = checkpoint.load(self._store, first if lora.rank else digest)
        if digest != weights.digest:
            weights = checkpoint.load_adapter(weights, digest, None, policy=name, lora=lora, seed=self._config.seed)
        return weight_probe.probe(weights, self._config.learn)

    def loss_of(self, name: PolicyName, digest: Digest) -> PolicyLoss:
        """The loss of older weights of a policy, such as those that sampled."""
        _collect_models()
        return self._load(name, digest, None, {})[1]

    def _load(
        self, name: PolicyName, digest: Digest, optimizer: Digest | None, bases: dict[Digest, tuple[LoadedWeights, PolicyLoss]]
    ) -> tuple[LoadedWeights, PolicyLoss]:
        lora = self._config.learn.lora
        if not lora.rank:
            weights = checkpoint.load(self._store, digest, optimizer)
            return weights, self._loss(name, weights)
        first = self._first(name)
        if first not in bases:
            base_weights = checkpoint.load(self._store, first)
            bases[first] = base_weights, self._loss(name, base_weights)
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


def _collect_models() -> None:
    """Free the models that nothing uses any more: each is in a cycle with its loss, and Python looks for cycles too late."""
    gc.collect()
    _free_memory()


def _free_memory() -> None:
    """Free the memory that an update needed besides weights and moments: what samples may share GPU and machine."""
    import torch

    release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
