"""The job file's keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from alignlaunch.train.config import Checkpoint, Count, Data, Lora, NonEmptyStr, Notify, Stage

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
TimeLimit = (
    Annotated[int, Meta(ge=0, le=999_999)]
    | Annotated[
        str,
        Meta(
            pattern=r"^(([0-9]{1,3}-)?[0-9]{1,6}(:[0-9]{1,2}){0,2}|UNLIMITED|[Uu]nlimited|INFINITE|[Ii]nfinite)\Z",
            description="HH:MM:SS, D-HH:MM:SS, minutes, or UNLIMITED",
        ),
    ]
)
Scalar = str | int | float | bool


class Random(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points drawn at random."""

    count: Annotated[Count, Meta(le=1000, description="How many points.", examples=[20])]
    seed: Annotated[int, Meta(ge=0, description="With the same seed the same points are drawn.")] = 0


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The points at which a job is run."""

    over: Annotated[
        dict[str, Any],
        Meta(
            description="Keys of the job, each with a list of values: every combination is a point. With `random` "
            "a key may have a range instead, {min: 1e-6, max: 1e-4, log: true}.",
            examples=[{"train.learning_rate": [1e-5, 2e-5], "train.seed": [1, 2, 3]}],
        ),
    ] = {}
    points: Annotated[
        list[dict[str, Any]],
        Meta(description="Points in full, each some keys with their values.", examples=[[{"lora.r": 8}]]),
    ] = []
    random: Annotated[
        Random | None,
        Meta(description="Draw points from `over` instead of taking every combination.", examples=[{"count": 20}]),
    ] = None
    max_parallel: Annotated[
        Annotated[Count, Meta(le=1000)] | None,
        Meta(description="How many points run at once. By default as many as there is room for.", examples=[2]),
    ] = None


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The job file's keys. `alignlaunch schema` prints this class."""

    name: Annotated[
        Name,
        Meta(
            description="The job's name. It names the folder of rendered files (launch/NAME), the Slurm job and the "
            "Kubernetes objects. Lower-case letters, digits and `-`; it starts with a letter; at most 50 characters. "
            "By default the job file's own name without its ending, in lower case, with `-` for `_`, `.` and spaces."
        ),
    ]
    stage: Annotated[
        Stage,
        Meta(
            description="The kind of training: pretraining (pt), supervised fine-tuning (sft), reward model (rm), "
            "DPO, ORPO, or safe DPO.",
            examples=["orpo"],
        ),
    ]
    model: Annotated[
        NonEmptyStr,
        Meta(
            description="The model to start from: a folder or a Hugging Face Hub id.",
            examples=["../model/Qwen/Qwen3-0.6B"],
        ),
    ]
    tokenizer: Annotated[
        NonEmptyStr | None,
        Meta(description="The tokenizer: a folder or a Hugging Face Hub id. By default the one in `model`."),
    ] = None
    attn_implementation: Annotated[
        NonEmptyStr | None,
        Meta(
            description="Attention implementation, as transformers names it. By default transformers chooses.",
            examples=["flash_attention_2"],
        ),
    ] = None
    quantization: Annotated[
        Literal["none", "8bit", "4bit"],
        Meta(
            description="Load the base model's weights in 8 or 4 bits (bitsandbytes). It needs `lora`, because "
            "quantised weights cannot be trained."
        ),
    ] = "none"
    trust_remote_code: Annotated[
        bool,
        Meta(
            description="Run Python code from the model's folder or Hub repository, as some models need. Turn it "
            "on only for sources that you trust."
        ),
    ] = False
    data: Annotated[
        Data,
        Meta(
            description="The training data and, if there is any, the evaluation data.",
            examples=[{"train": ["../data/reward"]}],
        ),
    ]
    output_dir: Annotated[
        NonEmptyStr,
        Meta(
            description="Folder for the trained model, the checkpoints and the metrics. By default `output/NAME` "
            "beside the job file.",
            examples=["../output/orpo_zero3"],
        ),
    ]
    nnodes: Annotated[
        Annotated[Count, Meta(le=100_000)]
        | Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}\Z", description="a number, or MIN:MAX")],
        Meta(
            description="Number of nodes. MIN:MAX makes an elastic job, which nodes may join and leave while it "
            "runs; only on Kubernetes.",
            examples=[2],
        ),
    ]
    nproc_per_node: Annotated[
        Count,
        Meta(
            le=1000,
            description="Number of training processes on each node, one for each GPU.",
            examples=[4],
        ),
    ]
    launcher: Annotated[
        Literal["torchrun", "deepspeed", "direct"],
        Meta(
            description="What starts the training processes on each node: torchrun, the deepspeed launcher, or on "
            "Slurm `direct`, where srun starts one task for each process (elsewhere it means torchrun). In a "
            "Kubernetes pod it is always torchrun."
        ),
    ]
    zero: Annotated[
        Annotated[int, Meta(ge=0, le=3, description="0, 1, 2 or 3, or the path of a DeepSpeed JSON file")]
        | NonEmptyStr,
        Meta(
            description="DeepSpeed ZeRO stage 1, 2 or 3; 0 trains with plain DDP, without DeepSpeed. The path of a "
            "DeepSpeed JSON file may stand here instead. The default depends on the stage of training "
            "(docs/defaults.md).",
            examples=[2],
        ),
    ]
    offload: Annotated[
        Literal["none", "optimizer", "optimizer+param"],
        Meta(
            description="What DeepSpeed keeps in the node's memory instead of the GPU's: the optimizer states, or "
            "with ZeRO stage 3 also the parameters."
        ),
    ] = "none"
    lora: Annotated[
        Lora | None,
        Meta(
            description="The LoRA adapter to train. null trains all weights of the model instead. By default there is "
            "one, with the values of the stage (docs/defaults.md).",
            examples=[{"r": 8}],
        ),
    ] = None
    train: Annotated[
        dict[str, Any],
        Meta(
            description="Arguments of the stage's trainer config (TRL's or transformers' own names). Anything not "
            "given has the stage's default (docs/defaults.md), else the trainer's. `effective_batch_size` may stand in "
            "the place of per_device_train_batch_size and gradient_accumulation_steps (docs/job-file.md).",
            examples=[{"max_steps": 100}],
        ),
    ] = {}
    checkpoint: Annotated[
        Checkpoint | None,
        Meta(
            description="How often checkpoints are saved, how many are kept, and where besides `output_dir`.",
            examples=[{"every": 500, "local": "/scratch", "local_every": 50}],
        ),
    ] = None
    time: Annotated[
        TimeLimit | None,
        Meta(
            description="Time limit in the formats of sbatch: HH:MM:SS, D-HH:MM:SS, or a number of minutes; 0 or "
            "UNLIMITED is no limit. By default the limit of the Slurm partition; on Kubernetes none.",
            examples=["12:00:00"],
        ),
    ] = None
    resume: Annotated[
        NonEmptyStr,
        Meta(
            description="Where a submission starts. `auto`: if the same job was interrupted in `output_dir`, from its "
            "newest whole checkpoint; otherwise from the beginning, and what another job left there is set aside. "
            "`never`: from the beginning. Or the path of a checkpoint. A requeued or restarted job always continues "
            "from its own newest whole checkpoint.",
            examples=["never", "../output/orpo_zero3/checkpoint-50"],
        ),
    ] = "auto"
    preflight_timeout: Annotated[
        Annotated[int, Meta(ge=0, le=86400)] | None,
        Meta(
            description="Seconds that the nodes wait for each other in the preflight check, before the launcher "
            "starts; 0 turns the check off. By default 60 on Slurm without containers, and 900 "
            "elsewhere, where an image may be pulled or a person starts each node.",
            examples=[120],
        ),
    ] = None
    max_restarts: Annotated[
        Annotated[int, Meta(ge=0, le=1000)],
        Meta(
            description="How often torchrun starts the processes on all nodes again, without a new place in the queue, "
            "after one of them died or lost another. They go on from the newest whole checkpoint (docs/resuming.md)."
        ),
    ] = 10
    hang_timeout: Annotated[
        Annotated[int, Meta(ge=0, le=86400)] | None,
        Meta(
            description="Seconds that a training step, or a batch of an evaluation, may take. Then the stacks of all "
            "processes are written to `output_dir/stacks`, the one that is behind is named in the log, and the attempt "
            "ends. By default ten times the median of the last 50, at least 300, and 1800 for the first ones; reading "
            "data, loading and saving have two hours between two signs of progress. 0 turns it off.",
            examples=[1200],
        ),
    ] = None
    env: Annotated[
        dict[str, Scalar],
        Meta(
            description="Environment variables of every process. They override those of the cluster profile.",
            examples=[{"NCCL_DEBUG": "WARN"}],
        ),
    ] = {}
    secrets: Annotated[
        list[NonEmptyStr],
        Meta(
            description="Names of environment variables that hold secrets. Write the names only, never the values: "
            "those are taken from your environment when the job is submitted, or on Kubernetes from "
            "the Secrets in `k8s.secrets`.",
            examples=[["HF_TOKEN"]],
        ),
    ] = []
    notify: Annotated[
        Notify | None,
        Meta(
            description="Whom to tell that the run has started, resumed, stopped, failed or is completed "
            "(docs/resuming.md). Nobody by default. A message that cannot be delivered costs a line in the log.",
            examples=[{"webhook": "SLACK_URL"}],
        ),
    ] = None
    sweep: Annotated[
        Sweep | None,
        Meta(
            description="Run the job at many points: each is a job of its own, with its name and its output folder "
            "(docs/sweeps.md).",
            examples=[{"over": {"train.learning_rate": [1e-5, 2e-5]}}],
        ),
    ] = None
    slurm: Annotated[Slurm, Meta(description="Options of sbatch.", examples=[{"partition": "gpu"}])] = Slurm()
    k8s: Annotated[
        K8s | None,
        Meta(
            description="Settings for Kubernetes. Without them, and without any in the cluster profile, no "
            "manifest is rendered.",
            examples=[{"image": "align:1"}],
        ),
    ] = None
