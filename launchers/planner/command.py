"""`alignlaunch plan`: plans of a job's or pipeline's steps, shown as text, JSON or a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UsageError
from . import picture, plan, states, strategies, text
from .architecture import model
from .architecture.model import Model, UnknownModelError
from .plan import Plan

if TYPE_CHECKING:
    from ..job.pipeline import Pipeline


class Wanted(NamedTuple):
    """The options of `alignlaunch plan`."""

    params: str | None
    figures: dict[str, int | None]  # dimensions of a model that is not on this machine, by config.json key
    gpu_gib: float | None
    host_gib: float | None
    precision: str


def make(pipeline: Pipeline, wanted: Wanted) -> list[Plan]:
    """One plan for each step. Raises UsageError if a model's size cannot be determined."""
    made = []
    for job in pipeline.jobs.values():
        # A step that starts from an earlier step's output: that model does not exist yet, but has the same size.
        origin = pipeline.origin(job)
        try:
            score_head = job.spec.stage == "rm"
            known = _by_hand(wanted, score_head=score_head) or model.find(
                origin.spec.model, origin.dir, score_head=score_head
            )
        except UnknownModelError as error:
            remedy = "download it, or give --params 32B --hidden 5120 --layers 64 --vocab 152064"
            raise UsageError(f"model: {error}\n    remedy: {remedy}") from error
        precision = states.NAMED.get(wanted.precision)
        made.append(plan.of(job, known=known, precision=precision, gpu_gib=wanted.gpu_gib, host_gib=wanted.host_gib))
    return made


def _by_hand(wanted: Wanted, *, score_head: bool) -> Model | None:
    given = {key: value for key, value in wanted.figures.items() if value is not None}
    if wanted.params is None:
        if given:
            raise UsageError(
                "--params is missing beside the model's other figures\n    remedy: for example --params 32B"
            )
        return None
    if "hidden_size" in given:
        given.setdefault("num_attention_heads", max(1, given["hidden_size"] // 128))
    return model.by_hand(wanted.params, given, score_head=score_head)


def settings(plans: list[Plan]) -> list[str]:
    """`KEY=value` of what is best for the one job that was planned. Raises UsageError."""
    (only, *others) = plans
    if others:
        raise UsageError("--apply: these are several jobs\n    remedy: plan and change the job file of each")
    if only.limits.gpu is None:
        raise UsageError(
            "--apply: nothing says how much memory a GPU has\n"
            "    remedy: --gpu-memory 80, or gpu_memory_gib in the profile"
        )
    if only.best is None:
        raise UsageError(
            "--apply: nothing fits on these GPUs with the job's tuning\n    remedy: see what would fit above"
        )
    return strategies.changes(only.setup, only.best)


def shown(plans: list[Plan], *, every: bool, as_json: bool) -> str:
    """All plans as text, or as JSON: one object for a job, a list for several steps."""
    if as_json:
        found = [text.as_json(one, one.options(every=True)) for one in plans]
        return json.dumps(found if len(found) > 1 else found[0])
    return "\n\n".join(text.text(one, one.options(every=every)) for one in plans)


def draw(path: Path, plans: list[Plan], *, every: bool) -> None:
    """Draw each plan. A pipeline gets one file for each step: `memory.png` becomes `memory-JOB.png`."""
    for one in plans:
        place = path if len(plans) == 1 else path.with_stem(f"{path.stem}-{one.job.spec.name}")
        picture.write(place, one, one.options(every=every))
