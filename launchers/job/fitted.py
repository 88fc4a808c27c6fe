"""Ask the planner for what `train.effective_batch_size` leaves open: the micro-batch, and the strategy if none is said.

The answer follows from the job, its profile and the model's config.json alone, so that rendering gives the same bytes.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, NamedTuple

from . import batch
from .job import Job


class Choice(NamedTuple):
    """Keys of the job with their values, and for people why these."""

    keys: dict[str, Any]
    why: str


def choices(job: Job, origin: Job, *, any_strategy: bool) -> list[Choice]:
    """What the job may become, the best first; without keys where nothing can be planned.

    job: with the stage's default micro-batch. origin: the job at the start of its pipeline, whose model is on this
    machine. any_strategy: ZeRO stage and offload may be chosen as well.
    """
    default, profile = "the stage's default", job.cluster
    if profile.gpu_memory_gib is None or profile.device != "gpu":
        return [Choice({}, f"{default}: no cluster profile says how much memory a GPU has (gpu_memory_gib)")]
    from ..planner import fitting, memory, plan, strategies  # only here: few jobs need it to be loaded
    from ..planner.architecture import model

    # A model that an earlier step makes is not read even if it is there: the answer must not change when it has run.
    made_later = any(PurePath(origin.spec.model).is_relative_to(output) for output in origin.upcoming)
    try:
        known = None if made_later else model.find(origin.spec.model, origin.dir, score_head=job.spec.stage == "rm")
    except model.UnknownModelError:
        known = None
    if known is None:
        return [
            Choice({}, f"{default}: not planned, as the model's config.json could not be read where this was rendered")
        ]
    planned = plan.of(job, known=known)
    share = job.per_device_batch_size * job.accumulation_steps
    candidates = fitting.open_to(job, planned.setup) if any_strategy else [planned.setup]
    free = f"leaves a tenth of {profile.gpu_memory_gib:g} GiB free"
    found = fitting.best(planned.setup, candidates, planned.limits)
    if not found:
        why = f"the smallest, and by the plan not even that {free} (`alignlaunch plan` says what would)"
        return [Choice(_sizes(1, share), why)]
    made = []
    for setup in found:
        word = "a whole step, which" if setup.samples == share else "the largest that"
        name = f", {strategies.name(setup)}" if any_strategy else ""
        why = f"{word} {free} (plan: {memory.peak(setup).total / memory.GIB:.1f} GiB{name})"
        strategy = {"zero": setup.zero, "offload": setup.offload} if any_strategy else {}
        made.append(Choice(_sizes(setup.samples, share) | strategy, why))
    return made


def _sizes(micro: int, share: int) -> dict[str, int]:
    return {f"train.{batch.MICRO}": micro, f"train.{batch.ACCUMULATION}": share // micro}
