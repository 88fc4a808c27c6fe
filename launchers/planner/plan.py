"""`alignlaunch plan`: whether a job fits, what would fit, and what a step communicates. Does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import fitting, from_job, memory, saves, speed, strategies
from .architecture import model
from .architecture.model import Model
from .communication import Bandwidths
from .memory import GIB, Phase, Setup
from .saves import Saves
from .speed import Speed
from .states import Precision
from .strategies import Limits

if TYPE_CHECKING:
    from ..job.cluster import Cluster
    from ..job.job import Job


@dataclass(frozen=True)
class Option:
    """One way to run the job, and the memory it needs."""

    setup: Setup
    peak: Phase
    host: float  # bytes of one host's memory
    fits: bool | None  # as in `Plan.fits`
    largest_micro_batch: int | None


@dataclass(frozen=True)
class Plan:
    """The plan for one job."""

    job: Job
    setup: Setup
    limits: Limits
    bandwidths: Bandwidths
    notes: list[str]  # what was assumed

    @property
    def fits(self) -> bool | None:
        """Whether the job fits; None if the GPU's memory is unknown and no known limit is exceeded."""
        return self.limits.answer(self.setup)

    def option(self, setup: Setup) -> Option:
        """The memory that a setup needs, and whether it fits."""
        return Option(
            setup,
            memory.peak(setup),
            sum(memory.host(setup).values()),
            self.limits.answer(setup),
            strategies.largest_micro_batch(setup, self.limits),
        )

    def options(self, *, every: bool) -> list[Option]:
        """The alternatives to the job: those with its own tuning (full, LoRA or QLoRA), or with `every` all."""
        return [
            self.option(setup)
            for setup in strategies.alternatives(self.setup)
            if every or setup.tuning is self.setup.tuning
        ]

    @property
    def best(self) -> Setup | None:
        """The same step with the largest micro-batch, by the strategy that moves least; with the job's tuning.

        Activation checkpointing is turned on only where nothing fits without. None: nothing fits, or the GPU's memory
        is unknown.
        """
        if self.limits.gpu is None:
            return None
        for checkpointing in dict.fromkeys((self.setup.checkpointing, True)):
            ways = (replace(one, checkpointing=checkpointing) for one in fitting.open_to(self.job, self.setup))
            if found := fitting.best(self.setup, ways, self.limits):
                return found[0]
        return None

    @property
    def steps(self) -> int | None:
        """Upper bound of the optimizer steps; None if the number of examples is unknown."""
        train = self.job.spec.train
        if train.get("max_steps", -1) > 0:
            return int(train["max_steps"])
        examples = self.job.spec.data.max_train_samples
        if examples is None:
            return None
        epochs = float(train.get("num_train_epochs", 3))
        return math.ceil(math.ceil(examples / self.job.effective_batch_size) * epochs)

    @property
    def speed(self) -> Speed | None:
        """How fast it trains, by what others have measured; None if the profile's `gpu_type` is not known, or alike."""
        gpu = self.job.cluster.gpu_type
        return speed.of(self.setup, gpu) if gpu and self.job.cluster.device == "gpu" else None

    @property
    def hours(self) -> tuple[float, float] | None:
        """Of all steps with every sequence at full length, at the highest and at the lowest speed; None: not known."""
        found, steps = self.speed, self.steps
        return found.hours(steps * self.tokens_per_step, self.setup.gpus) if found and steps is not None else None

    @property
    def saves(self) -> Saves:
        """What a checkpoint takes."""
        speed, spec = self.job.cluster.storage_bandwidth_gbs, self.job.spec
        return saves.of(self.setup, speed and speed * 1e9, only_model=bool(spec.train.get("save_only_model")))

    @property
    def too_short_notice(self) -> str:
        """Why `slurm.signal_seconds` is not enough for a save; "" if it is, or if that is not known."""
        needed, given = self.saves.seconds, self.job.signal_seconds
        if needed is None or not given or needed <= given:
            return ""
        return (
            f"slurm.signal_seconds: {given} s before the time limit are not enough for a save of {needed:.0f} s"
            f" (storage_bandwidth_gbs: {self.job.cluster.storage_bandwidth_gbs:g}); set"
            f" slurm.signal_seconds={math.ceil(needed * 1.5 / 60) * 60}"
        )

    @property
    def tokens_per_step(self) -> int:
        """Upper bound of the tokens in one optimizer step over all processes: every sequence at full length."""
        return self.job.effective_batch_size * self.setup.sequences_per_sample * self.setup.length


def of(
    job: Job,
    *,
    known: Model | None = None,
    precision: Precision | None = None,
    gpu_gib: float | None = None,
    host_gib: float | None = None,
) -> Plan:
    """Plan a job.

    known: its model; None: look it up. precision: replaces the precision that the entrypoint uses. gpu_gib, host_gib:
    replace the cluster profile's. Raises UnknownModelError.
    """
    cluster = job.cluster
    found = known or model.find(job.spec.model, job.dir, score_head=job.spec.stage == "rm")
    setup, notes = from_job.setup(job, found, precision)
    return Plan(job, setup, _limits(cluster, gpu_gib, host_gib), _bandwidths(cluster), notes)


def certain_failure(plan: Plan) -> str | None:
    """Why a job certainly does not fit on its cluster, with a remedy; None if it may."""
    gpu, host = memory.floor(plan.setup), memory.host_floor(plan.setup)
    if plan.limits.gpu is not None and gpu > plan.limits.gpu:
        rule = f"at least {gpu / GIB:.1f} GiB on each GPU ({_states(plan)}), which has {plan.limits.gpu / GIB:g}"
    elif plan.limits.host is not None and host > plan.limits.host:
        rule = f"at least {host / GIB:.0f} GiB on each node for what is offloaded, which has {plan.limits.host / GIB:g}"
    else:
        return None
    others = strategies.remedies(plan.setup, plan.limits)
    remedy = strategies.sets(plan.setup, others[0]) if others else "more GPUs: no strategy fits on these"
    return (
        f"memory: {strategies.name(plan.setup)} takes {rule}\n"
        f"    remedy: {remedy} (`alignlaunch plan {plan.job.path.name}` shows every alternative; --no-plan skips this)"
    )


def _states(plan: Plan) -> str:
    found = memory.model_states(plan.setup)
    return ", ".join(f"{name} {size / GIB:.1f}" for name, size in found._asdict().items())


def _limits(cluster: Cluster, gpu_gib: float | None, host_gib: float | None) -> Limits:
    gpu = gpu_gib or (cluster.gpu_memory_gib if cluster.device == "gpu" else None)
    host = host_gib or cluster.host_memory_gib
    return Limits(gpu and gpu * GIB, host and host * GIB)


def _bandwidths(cluster: Cluster) -> Bandwidths:
    given = (cluster.gpu_bandwidth_gbs, cluster.network_bandwidth_gbs, cluster.host_bandwidth_gbs)
    return Bandwidths(*(speed and speed * 1e9 for speed in given))
