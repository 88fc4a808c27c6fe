"""What the commands on a job print with `--json`: plan, data, eval, describe. The others are in `shapes`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from alignlaunch.train.config import Stage


class Shape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object with these keys and no others."""


def is_(meaning: str) -> Meta:
    """What a key means."""
    return Meta(description=meaning)


class Option(Shape):
    """A way to train the job."""

    tuning: Annotated[str, is_("Full, LoRA or QLoRA, with its rank.")]
    strategy: Annotated[str, is_("DDP or a ZeRO stage, with its offload.")]
    zero: Annotated[int, is_("The ZeRO stage; 0: DDP.")]
    offload: Annotated[Literal["none", "optimizer", "optimizer+param"], is_("What lies in the host's memory.")]
    gradient_checkpointing: Annotated[bool, is_("Whether activations are computed again.")]
    micro_batch: Annotated[int, is_("Samples a GPU and forward pass.")]
    peak: Annotated[float, is_("The most of a GPU's memory in a step, in bytes.")]
    peak_at: Annotated[str, is_("In which phase.")]
    terms: Annotated[dict[str, float], is_("What it consists of, in bytes.")]
    host: Annotated[dict[str, float], is_("What a host's memory holds, in bytes.")]
    fits: Annotated[bool | None, is_("null: nothing says how much memory there is.")]
    largest_micro_batch: Annotated[int | None, is_("The largest that fits. null: any, or there is no limit known.")]
    network_bytes_per_step: Annotated[float, is_("What a GPU moves to others.")]
    host_bytes_per_step: Annotated[float, is_("What a GPU moves to and from its host's memory.")]


class Phase(Shape):
    """A phase of a step."""

    name: str
    terms: Annotated[dict[str, float], is_("Of a GPU's memory, in bytes.")]
    total: Annotated[float, is_("Their sum.")]


class Speed(Shape):
    """How fast a job trains, by what others have measured. Each list is the lowest and the highest."""

    mfu: Annotated[list[float], is_("Share of the GPU's peak.")]
    tokens_per_second_per_gpu: Annotated[list[float], is_("With every sequence at full length.")]
    hours: Annotated[list[float] | None, is_("Of all steps, at most. null: as `steps`.")]
    source: Annotated[str, is_("Who measured it.")]


class Estimate(Shape):
    """What a step and a checkpoint cost."""

    tokens_per_step: Annotated[int, is_("At most, of all processes.")]
    steps: Annotated[int | None, is_("At most. null: it depends on the data.")]
    communication_seconds: Annotated[float | None, is_("Of a step, if nothing is hidden. null: no bandwidth is known.")]
    speed: Annotated[Speed | None, is_("null: `gpu_type` of the profile is not known, or no such training measured.")]
    checkpoint_bytes: Annotated[int, is_("Of one checkpoint.")]
    save_seconds: Annotated[float | None, is_("That it takes. null: the profile has no `storage_bandwidth_gbs`.")]
    save_every_seconds: Annotated[float | None, is_("The interval that costs least. null: as `save_seconds`.")]


class Plan(Shape):
    """What a job takes. All memory is in bytes."""

    job: Annotated[str, is_("The job's name.")]
    parameters: Annotated[int, is_("Of the model.")]
    trained: Annotated[int, is_("Of them, or of the adapter, those that are trained.")]
    exact: Annotated[bool, is_("Whether they were counted, and not estimated.")]
    origin: Annotated[str, is_("What they were counted from.")]
    precision: Annotated[str, is_("The precision of training.")]
    gpu_memory: Annotated[float | None, is_("Of one GPU. null: not known.")]
    host_memory: Annotated[float | None, is_("Of one node. null: not known.")]
    overhead: Annotated[float, is_("What CUDA and NCCL take of a GPU.")]
    fits: Annotated[bool | None, is_("null: nothing says how much memory there is.")]
    room: Annotated[float | None, is_("What is left of a GPU; less than 0: what is missing. null: as `fits`.")]
    as_written: Annotated[Option, is_("The job as it is.")]
    phases: list[Phase]
    cheapest: Annotated[
        list[str] | None, is_("`--set` values of what fits and moves least. null: nothing fits, or `gpu_memory` is.")
    ]
    best: Annotated[
        list[str] | None, is_("`--set` values that `--apply` writes. null: nothing fits, or `gpu_memory` is.")
    ]
    remedies: Annotated[list[list[str]], is_("`--set` values of each way that would fit, if the job does not.")]
    alternatives: Annotated[list[Option], is_("As of `--all`.")]
    estimate: Estimate
    documents: Annotated[str, is_("What the project's documents advise for such a model, beside this plan.")]
    notes: Annotated[list[str], is_("What was assumed.")]


class Part(Shape):
    """A piece of a sequence."""

    text: str
    learnt: Annotated[bool, is_("Whether its tokens count in the loss.")]


class Sequence(Shape):
    """A sequence as the model sees it."""

    name: Annotated[str, is_('chosen and rejected, or a and b. "": the only one.')]
    parts: Annotated[list[Part], is_("Its text.")]
    tokens: Annotated[int | UnsetType, is_("Left out of a sequence with images.")] = UNSET
    learnt_tokens: Annotated[int | UnsetType, is_("Of them, those that count in the loss. Left out as `tokens`.")] = (
        UNSET
    )
    images: Annotated[list[Any] | UnsetType, is_("Only of a sequence with images.")] = UNSET


class Record(Shape):
    """A record in full."""

    place: Annotated[str, is_("FILE:LINE.")]
    format: Annotated[str, is_("As what it was read ([data.md](data.md)).")]
    truncated: Annotated[bool, is_("Whether it was cut.")]
    why: Annotated[str, is_('Why it is dropped. "": it is not, or nothing of it is learnt.')]
    sequences: list[Sequence]


class Source(Shape):
    """A source of data, counted in its first records."""

    path: Annotated[str, is_("As the job file says it.")]
    left_out: Annotated[int, is_("Records left out by `max_train_samples` or `max_eval_samples`.")]
    records: Annotated[int, is_("That were counted.")]
    complete: Annotated[bool, is_("Whether these are all.")]
    formats: Annotated[dict[str, int], is_("How many were read as what.")]
    truncated: Annotated[int, is_("How many are cut.")]
    dropped: Annotated[dict[str, int], is_("How many are dropped, by the reason.")]
    bad: Annotated[int, is_("How many cannot be read.")]
    bad_records: Annotated[list[str], is_("The first of them, and why.")]
    tokens: Annotated[
        list[int], is_("Of a sequence: least, 5 %, median, 95 %, most. Empty: there are none, or they have images.")
    ]
    learnt_tokens: Annotated[list[int], is_("Of them, those that count in the loss, in the same way.")]
    shown: Annotated[list[Record], is_("As many as `--records`.")]


class ShownData(Shape):
    """A job's data as it will be trained."""

    stage: Stage
    model: Annotated[str, is_("Whose tokenizer it is.")]
    arguments: Annotated[dict[str, Any], is_("The keys of `train` that decide how records are encoded.")]
    data: Annotated[dict[Literal["train", "validation"], list[Source]], is_("`validation` where the job has some.")]


class Evaluation(Shape):
    """What eval.json says."""

    metrics: Annotated[dict[str, float | None], is_("By name, without `eval_`. null: it is no finite number.")]
    data: Annotated[list[str], is_("What was read.")]
    precision: Annotated[str, is_("Of the computation.")]
    examples: Annotated[int, is_("How many.")]
    versions: Annotated[dict[str, str | None], is_("Of the packages. null: not installed.")]
    time: Annotated[str, is_("When, in ISO 8601 with the offset from UTC.")]


class Step(Shape):
    """A step of a pipeline file."""

    path: Annotated[str, is_("The pipeline file.")]
    step: Annotated[str, is_("The step's name in it.")]


class Description(Shape):
    """What a run was made from: its run.json. One that an older version wrote has fewer keys."""

    handle: Annotated[str, is_("The run's handle.")]
    alignlaunch: Annotated[str, is_("The version that submitted it.")]
    name: Annotated[str, is_("The job's name.")]
    stage: Stage
    target: Literal["bash", "slurm", "k8s"]
    launcher: Annotated[str, is_("As the job file says it.")]
    nnodes: Annotated[int, is_("How many nodes.")]
    nproc_per_node: Annotated[int, is_("Processes of a node.")]
    job_file: Annotated[str, is_("Its path.")]
    job_sha256: Annotated[str, is_("The digest of what the job says.")]
    pipeline: Annotated[Step | None, is_("The step of a pipeline file that it is. null: it is none.")]
    cluster: Annotated[str | None, is_("The profile's name. null: none was taken.")]
    cluster_sha256: Annotated[str | None, is_("The digest of what the profile says. null: none was taken.")]
    point: Annotated[str | None, is_("The point of a sweep that it is. null: it is none.")]
    max_parallel: Annotated[int | None, is_("How many points run at once. null: all, or it is none.")]
    suspended: Annotated[bool, is_("Whether it was submitted to wait for its turn.")]
    set: Annotated[list[str], is_("The `--set` of its submission.")]
    varies: Annotated[list[str], is_("What is other than in the committed job.")]
    artifacts: Annotated[dict[str, str], is_("The SHA-256 of each file that ran.")]
    git_commit: Annotated[str | None, is_("null: no git repository.")]
    git_dirty: Annotated[bool | None, is_("Whether something was not committed. null: no git repository.")]
    command_line: Annotated[str, is_("What was typed.")]
    submit_command: Annotated[list[str], is_("What the scheduler was called with.")]
    secrets: Annotated[list[str], is_("The names of its secrets.")]
    python: Annotated[str, is_("What submitted it.")]
    python_version: str
    user: str
    host: str
    submitted_at: Annotated[str, is_("When, in ISO 8601 with the offset from UTC.")]
