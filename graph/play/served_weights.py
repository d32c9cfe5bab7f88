"""The weights that a run's roles play with: adopts what the trainer learned, loads it into the models, and checks it.

Guarantees:
- No role plays with weights whose model has not passed the weight-sync check.
- What is served is recorded once, and only what changed is loaded, so starting and resuming are one code path.

Not responsible for: learning (the trainer does, in a process of its own), or which students are tried and promoted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from events.facts.digests import SHORT
from events.facts.errors import ModelError
from events.facts.log import Log, ReadableLog, read_facts
from events.facts.streams import RUN, policy_stream
from events.facts.types import PolicyProbed, PolicyServed, PolicyUpdated
from events.facts.values import Digest, Role
from events.process.activity import Activity
from events.text.logging import logger, seconds_since
from graph.play.trainer_process import TrainerProcess
from graph.play.weight_sync import LogprobDifference, WeightSyncChecker
from roles.model import Model


def last_served(log: ReadableLog) -> dict[Role, Digest]:
    """The weights that each role's model served last; nothing before the first weight-sync check."""
    return {fact.role: fact.policy for fact in read_facts(log, PolicyServed, RUN)}


@dataclass
class ServedWeights:
    """The weights of a run's policies, and the models that serve them."""

    log: Log
    store: Path
    """Folder of weights, by digest."""
    policy_of: Mapping[Role, str]
    """The name of each role's policy."""
    models: dict[str, Model]
    """By the policy's name."""
    trainer: TrainerProcess
    """A process; met only in the log."""
    checker: WeightSyncChecker
    activity: Activity
    digests: dict[Role, Digest]
    """Weights that each role plays with, at first those that the run started with."""
    fetch: Callable[[Digest], None] | None = None
    """Brings weights into the store, where that is not shared."""

    async def adopt(self, iteration: int) -> None:
        """Wait until the trainer has learned from an iteration (0: nothing yet), then serve, check and record the new weights.

        Raises:
            TrainerError: the trainer ended before.
            ModelError: a model failed, or does not serve its new weights.
        """
        if iteration:
            await self._wait_for_updates(iteration)
        probes = await self._changed(iteration)
        # Not before all are known, so that the order of events does not depend on timing.
        for policy, probe in probes.items():
            await self._serve(policy, probe)

    async def load(self, policy: str, probe: PolicyProbed) -> LogprobDifference:
        """Load the weights of a probe into the model of a policy, and compare its logprobs; ModelError if they differ."""
        model, digest = self.models[policy], probe.digest
        began = time.monotonic()
        with self.activity.task(f"syncing the weights {digest[:SHORT]}", phase="weights"):
            if self.fetch is not None:
                await asyncio.to_thread(self.fetch, digest)
            if model.policy != digest:
                await model.load_weights(self.store / digest, digest)
            gap = await self.checker.check(policy, model, probe)
        logger().info(
            "weights_served", policy=policy, digest=digest, seconds=seconds_since(began), difference=gap.largest, mean=gap.mean
        )
        return gap

    async def load_probed(self, digests: Mapping[Role, Digest]) -> None:
        """Load the weights of each role that are not loaded yet, with probes that the log holds; ModelError if it lacks one."""
        for policy, digest in {self.policy_of[role]: digest for role, digest in digests.items()}.items():
            if self.checker.checked(policy) != digest:
                probes = read_facts(self.log, PolicyProbed, policy_stream(policy))
                probe = next((fact for fact in probes if fact.digest == digest), None)
                if probe is None:
                    raise ModelError(f"The log holds no probe of the weights {digest[:SHORT]}; resume the run.")
                await self.load(policy, probe)

    def updates(self, policy: str) -> dict[int, Digest]:
        """The weights that a policy had after each iteration that it has learned from."""
        return {fact.iteration: fact.digest for fact in read_facts(self.log, PolicyUpdated, policy_stream(policy))}

    async def _wait_for_updates(self, iteration: int) -> None:
        for policy in self._roles_of:
            began = time.monotonic()
            await asyncio.gather(*(model.sleep() for model in self.models.values()))
            digest = await self.trainer.wait_for_update(policy, iteration)
            logger().info("policy_learned", policy=policy, digest=digest, waited=seconds_since(began))

    async def _changed(self, iteration: int) -> dict[str, PolicyProbed]:
        """Take over the digests that exist after an iteration; the trainer's probes of those that are not loaded, by policy."""
        probes: dict[str, PolicyProbed] = {}
        for policy, roles in self._roles_of.items():
            before = self.digests[roles[0]]
            digest = self.updates(policy).get(iteration, before)
            self.digests |= dict.fromkeys(roles, digest)
            if digest != before or self.checker.checked(policy) != digest:  # A promoted student may be loaded already.
                probes[policy] = await self.trainer.wait_for_probe(policy, digest)
        return probes

    async def _serve(self, policy: str, probe: PolicyProbed) -> None:
        """Load the weights of a probe, and record them for the roles that did not have them."""
        gap = await self.load(policy, probe)
        numbers = {"difference": round(gap.largest, 6), "mean_difference": round(gap.mean, 6)}
        served = list(read_facts(self.log, PolicyServed, RUN))
        last = {fact.role: fact.policy for fact in served}
        roles = [role for role in self._roles_of[policy] if last.get(role) != probe.digest]
        if facts := [PolicyServed(role=role, policy=probe.digest, **numbers) for role in roles]:
            self.log.append(RUN, facts, key=f"{policy} served@{len(served)}")

    @property
    def _roles_of(self) -> dict[str, list[Role]]:
        """The roles that play with each policy, by its name."""
        roles: dict[str, list[Role]] = {}
        for role, policy in self.policy_of.items():
            roles.setdefault(policy, []).append(role)
        return roles
