"""The alternatives to a job, which of them fit, and the `--set` options that select one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from alignlaunch.train.config import Lora

from .. import zero as zeros
from . import communication, memory
from .memory import GIB, Setup
from .states import Offload
from .tuning import Tuning

#: Allowance (not measured) for the CUDA context, NCCL and cuBLAS workspaces, and allocator fragmentation.
OVERHEAD = 1.5 * GIB
#: Each ZeRO stage (0: DDP) with each offload that it supports.
SHARDINGS: list[tuple[int, Offload]] = [
    (0, "none"),
    (1, "none"),
    (2, "none"),
    (3, "none"),
    (1, "optimizer"),
    (2, "optimizer"),
    (3, "optimizer"),
    (3, "optimizer+param"),
]
#: The fastest first.
OFFLOADS: list[Offload] = ["none", "optimizer", "optimizer+param"]
_MOST_SEQUENCES = 4096


class Limits(NamedTuple):
    """Memory of one GPU and of one host in bytes; None: unknown."""

    gpu: float | None
    host: float | None

    def room(self, setup: Setup) -> float | None:
        """Free bytes on a GPU at the peak, negative if it does not fit; None if the GPU's memory is unknown."""
        return None if self.gpu is None else self.gpu - OVERHEAD - memory.peak(setup).total

    def host_room(self, setup: Setup) -> float | None:
        """The same for a host's memory."""
        return None if self.host is None else self.host - sum(memory.host(setup).values())

    def fit(self, setup: Setup) -> bool:
        """Whether no known limit is exceeded."""
        return all(room is None or room >= 0 for room in (self.room(setup), self.host_room(setup)))

    def answer(self, setup: Setup) -> bool | None:
        """Whether the setup fits; None if the GPU's memory is unknown and no known limit is exceeded."""
        return None if self.gpu is None and self.fit(setup) else self.fit(setup)


@cache
def _named(zero: int, offload: Offload) -> dict[str, Any]:
    config = zeros.named(zero, offload)
    section: dict[str, Any] = json.loads(config.text)["zero_optimization"] if config else {}
    return section


def sharded(setup: Setup, zero: int, offload: Offload) -> Setup:
    """The setup with another ZeRO stage and offload, configured by our packaged DeepSpeed JSON."""
    if (zero, offload) == (setup.zero, setup.offload):
        return setup
    return replace(setup, zero=zero, offload=offload, deepspeed=_named(zero, offload))


def shardings(setup: Setup) -> list[Setup]:
    """The setup with DDP and every ZeRO stage, without ZeRO-3 for quantised weights, which cannot be sharded."""
    stages = [(zero, offload) for zero, offload in SHARDINGS if zero < 3 or setup.tuning.quantization == "none"]
    return [sharded(setup, zero, offload) for zero, offload in stages]


def tunings(setup: Setup) -> list[Tuning]:
    """Full, LoRA and QLoRA for the same model; with the job's adapter, if it has one."""
    model, adapter = setup.tuning.model, setup.tuning.lora or Lora()
    made = [Tuning(model, None, "none"), Tuning(model, adapter, "none"), Tuning(model, adapter, "4bit")]
    return [setup.tuning if tuning.name == setup.tuning.name else tuning for tuning in made]


def tuned(setup: Setup, tuning: Tuning) -> Setup:
    """The setup with another tuning. A full fine-tune may need a reference model; LoRA switches its adapter off."""
    if tuning is setup.tuning:
        return setup
    return replace(setup, tuning=tuning, reference=setup.full_reference and tuning.lora is None)


def alternatives(setup: Setup) -> Iterator[Setup]:
    """Every combination of tuning, sharding and activation checkpointing."""
    for tuning in tunings(setup):
        for other in shardings(tuned(setup, tuning)):
            for checkpointing in (True, False):
                yield replace(other, checkpointing=checkpointing)


def largest_micro_batch(setup: Setup, limits: Limits) -> int | None:
    """The largest micro-batch that fits, 0 if not even one sample does; None if no known limit bounds it."""
    each = setup.sequences_per_sample

    def fits(samples: int) -> bool:
        return limits.fit(replace(setup, sequences=samples * each))

    low, high = 0, 1
    while fits(high):
        if limits.gpu is None or high * each > _MOST_SEQUENCES:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def cost(setup: Setup) -> tuple[int, float, float]:
    """Sort key of strategies: offload (an optimizer step on the CPU is slow), communication volume, peak memory."""
    moved = communication.volume(setup)
    return OFFLOADS.index(setup.offload), moved.network + moved.host, memory.peak(setup).total


def cheapest(setup: Setup, limits: Limits) -> Setup | None:
    """The cheapest sharding that fits, with the job otherwise unchanged; None if none fits."""
    return min((other for other in shardings(setup) if limits.fit(other)), key=cost, default=None)


def remedies(setup: Setup, limits: Limits) -> list[Setup]:
    """For a job that does not fit: for each tuning the setup nearest to the job that does, full, then LoRA, then QLoRA.

    Only the job's tuning and those after it. Nearest: first without offload, then with the job's micro-batch, then the
    cheapest.
    """
    found = []
    names = [tuning.name for tuning in tunings(setup)]
    for tuning in tunings(setup)[names.index(setup.tuning.name) :]:
        candidates = [
            with_samples(replace(other, checkpointing=True), samples)
            for other in shardings(tuned(setup, tuning))
            for samples in dict.fromkeys((setup.samples, 1))
        ]
        fitting = [other for other in candidates if limits.fit(other)]
        if fitting:
            found.append(min(fitting, key=lambda o: (OFFLOADS.index(o.offload), o.samples < setup.samples, cost(o))))
    return found


def with_samples(setup: Setup, samples: int) -> Setup:
    """The setup with another micro-batch, and the accumulation (rounded up) that keeps the effective batch size."""
    if samples == setup.samples:
        return setup
    accumulation = -(-setup.samples * setup.accumulation // samples)
    return replace(setup, sequences=samples * setup.sequences_per_sample, accumulation=accumulation)


def changes(job: Setup, other: Setup) -> list[str]:
    """The `--set` values that turn the job into the other setup."""
    found = []
    if other.tuning.name != job.tuning.name:
        if other.tuning.lora and not job.tuning.lora:
            found.append(f"lora={{r: {other.tuning.lora.r}, alpha: {other.tuning.lora.alpha}}}")
        found.append(f"quantization={other.tuning.quantization}")
    if other.zero != job.zero:
        found.append(f"zero={other.zero}")
    if other.offload != job.offload:
        found.append(f"offload={other.offload}")
    if other.checkpointing != job.checkpointing:
        found.append(f"train.gradient_checkpointing={str(other.checkpointing).lower()}")
    if other.samples != job.samples:
        found.append(f"train.per_device_train_batch_size={other.samples}")
        found.append(f"train.gradient_accumulation_steps={other.accumulation}")
    return [change for change in found if change != "quantization=none" or job.tuning.quantization != "none"]


def sets(setup: Setup, other: Setup) -> str:
    """The command-line options that turn the job into the other setup."""
    return " ".join(f"--set {shlex.quote(change)}" for change in changes(setup, other))


def name(setup: Setup) -> str:
    """The common name of the strategy, such as "ZeRO-3 + optimizer offload"."""
    offload = {"none": "", "optimizer": " + optimizer offload", "optimizer+param": " + full offload"}[setup.offload]
    return (f"ZeRO-{setup.zero}" if setup.zero else "DDP") + offload
