"""The job file's keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from alignlaunch.train.config import Count, Data, Lora, NonEmptyStr, Stage

from .cluster import Slurm
from .k8s.spec import K8s

#: A DNS-1035 label, as Kubernetes requires; short enough that suffixes can be added.
Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?\Z",
        description="Lower-case letters, digits and `-`; starts with a letter; at most 50 characters.",
        examples=["qwen3-orpo"],
    ),
]
TimeLimit = Annotated[
    Annotated[int, Meta(ge=0, le=999_999)]
    | Annotated[
        str,
        Meta(
            pattern=r"^(([0-9]{1,3}-)?[0-9]{1,6}(:[0-9]{1,2}){0,2}|UNLIMITED|[Uu]nlimited|INFINITE|[Ii]nfinite)\Z",
            description="HH:MM:SS, D-HH:MM:SS, minutes, or UNLIMITED",
        ),
    ],
    Meta(
        description="Time limit as sbatch has it: HH:MM:SS, D-HH:MM:SS, minutes; 0 is UNLIMITED.", examples=["12:00:00"]
    ),
]
Scalar = str | int | float | bool


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The job file's keys. `alignlaunch schema` prints this class."""

    name: Name
    stage: Annotated[Stage, Meta(description="What kind of training.", examples=["orpo"])]
    model: Annotated[NonEmptyStr, Meta(description="Model folder or hub id.", examples=["../model/Qwen/Qwen3-0.6B"])]
    tokenizer: Annotated[NonEmptyStr | None, Meta(description="Tokenizer folder or hub id; else the model's.")] = None
    attn_implementation: Annotated[
        NonEmptyStr | None, Meta(description="Attention kernel.", examples=["flash_attention_2"])
    ] = None
    quantization: Annotated[
        Literal["none", "8bit", "4bit"], Meta(description="Load the base model quantised (bitsandbytes).")
    ] = "none"
    trust_remote_code: Annotated[bool, Meta(description="Run code that comes with the model.")] = False
    data: Annotated[Data, Meta(description="Training and validation data.", examples=[{"train": ["../data/reward"]}])]
    output_dir: Annotated[
        NonEmptyStr, Meta(description="Where model, checkpoints and metrics go.", examples=["../output/orpo_zero3"])
    ]
    nnodes: Annotated[
        Annotated[Count, Meta(le=100_000)]
        | Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}\Z", description="a number, or MIN:MAX")],
        Meta(description="Number of nodes; MIN:MAX is elastic, on Kubernetes only.", examples=[2]),
    ]
    nproc_per_node: Annotated[Count, Meta(le=1000, description="Processes (GPUs) on each node.", examples=[4])]
    launcher: Annotated[
        Literal["torchrun", "deepspeed", "direct"],
        Meta(description="What starts the processes; direct: one srun task a process. On Kubernetes torchrun always."),
    ]
    zero: Annotated[
        Annotated[int, Meta(ge=0, le=3)] | NonEmptyStr,
        Meta(description="ZeRO stage: 0 (DDP), 1, 2, 3, or a DeepSpeed JSON file.", examples=[2]),
    ]
    offload: Annotated[
        Literal["none", "optimizer", "optimizer+param"], Meta(description="What ZeRO keeps in host memory.")
    ] = "none"
    lora: Annotated[Lora | None, Meta(description="LoRA adapter; null trains every weight.", examples=[{"r": 8}])] = (
        None
    )
    train: Annotated[
        dict[str, Any],
        Meta(description="Any argument of the stage's trainer config.", examples=[{"max_steps": 100}]),
    ] = {}
    time: TimeLimit | None = None
    preflight_timeout: Annotated[
        Annotated[int, Meta(ge=0, le=86400)] | None,
        Meta(
            description="Seconds that the nodes wait for each other before the launcher starts; 0: no preflight. Else "
            "60 on Slurm, and 900 where an image is pulled first or a person starts each node.",
            examples=[120],
        ),
    ] = None
    env: Annotated[
        dict[str, Scalar], Meta(description="Environment of every process.", examples=[{"NCCL_DEBUG": "WARN"}])
    ] = {}
    secrets: Annotated[
        list[NonEmptyStr],
        Meta(description="Names of variables to pass on from your environment; never values.", examples=[["HF_TOKEN"]]),
    ] = []
    slurm: Annotated[Slurm, Meta(description="sbatch options.", examples=[{"partition": "gpu"}])] = Slurm()
    k8s: Annotated[K8s | None, Meta(description="What Kubernetes is asked for.", examples=[{"image": "align:1"}])] = (
        None
    )
