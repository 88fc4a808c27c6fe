"""A cluster profile: what differs between clusters, so that one job file runs on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from alignlaunch.train.config import NonEmptyStr

from ..errors import JobFileError, UsageError
from ..paths import config_home
from . import rules, schema, yamlfile
from .k8s.spec import K8s

#: sbatch parses `#SBATCH` lines itself, without a shell: values may hold no space, quote, backslash or comment sign.
SbatchValue = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_.,:;@%+=/*()\[\]|&-]+\Z",
        description="sbatch reads this itself: no spaces, quotes, `\\`, `$` or `#`",
    ),
]
SbatchOption = Annotated[
    str,
    Meta(
        pattern=r"^--[a-z][a-z0-9-]*(=[A-Za-z0-9_.,:;@%+=/*()\[\]|&-]+)?\Z",
        description="a long sbatch option, `--name` or `--name=value`, without spaces, quotes, `\\`, `$` or `#`",
        examples=["--constraint=h100"],
    ),
]


class Slurm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of sbatch under their own names. The job's keys win over the cluster profile's."""

    partition: Annotated[
        SbatchValue | None,
        Meta(description="Partition to submit to. By default Slurm's default partition.", examples=["gpu"]),
    ] = None
    account: Annotated[
        SbatchValue | None,
        Meta(description="Account that the job is charged to. By default your default account.", examples=["lab"]),
    ] = None
    qos: Annotated[
        SbatchValue | None, Meta(description="Quality of service (QOS). By default your account's.", examples=["high"])
    ] = None
    cpus_per_task: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="CPUs for each srun task: for each node with torchrun or deepspeed, for each process with "
            "`launcher: direct`. By default Slurm decides.",
            examples=[16],
        ),
    ] = None
    mem: Annotated[
        SbatchValue | None,
        Meta(
            description="Host memory of the job on each node, with sbatch's units (M by default, G, T); 0 is all "
            "memory of the node. By default Slurm decides.",
            examples=["0", "64G"],
        ),
    ] = None
    signal_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Seconds before the time limit at which the run saves a checkpoint and stops, to be "
            "requeued. It must be enough for one step and one save. 0: the time limit ends the run without a save.",
            examples=[300],
        ),
    ] = 300
    requeue: Annotated[
        bool,
        Meta(
            description="Let Slurm put the job back into the queue after preemption or the failure of a node; it "
            "then resumes from its last checkpoint. With `false` it is not requeued at its time limit either."
        ),
    ] = True
    max_requeues: Annotated[
        int,
        Meta(
            ge=0,
            description="How often a run that saved and stopped at its time limit is put back into the queue, which it "
            "is only if it made progress. Restarts after preemption or the failure of a node count as well.",
            examples=[20],
        ),
    ] = 100
    extra: Annotated[
        list[SbatchOption],
        Meta(
            description="Any further sbatch options. A job's list is added to the cluster profile's.",
            examples=[["--constraint=h100"]],
        ),
    ] = []


class Container(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The container that each task runs in."""

    runtime: Annotated[
        Literal["pyxis", "apptainer"],
        Meta(description="The container runtime of the cluster: pyxis (srun --container-image) or apptainer."),
    ]
    image: Annotated[
        NonEmptyStr, Meta(description="The image, as the container runtime names it.", examples=["/images/train.sqsh"])
    ]
    mounts: Annotated[
        list[NonEmptyStr],
        Meta(description="Further folders to mount, as HOST_PATH:CONTAINER_PATH.", examples=[["/data:/data"]]),
    ] = []


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`clusters/NAME.yaml`. Every key has a default that fits a plain Slurm with one python for all nodes."""

    slurm: Annotated[Slurm, Meta(description="Options of sbatch. Those of the job file override them.")] = Slurm()
    k8s: Annotated[
        K8s | None,
        Meta(description="Settings for Kubernetes. Those of the job file override them; maps are merged key by key."),
    ] = None
    device: Annotated[
        Literal["gpu", "cpu"],
        Meta(
            description="Device to train on. With `cpu` no GPUs are requested and processes communicate with gloo "
            "instead of NCCL."
        ),
    ] = "gpu"
    gpu_type: Annotated[
        SbatchValue | None,
        Meta(
            description="Type of GPU to request, as Slurm names it in `--gres=gpu:TYPE:COUNT`. By default any type. "
            "`alignlaunch plan` estimates the speed of known ones.",
            examples=["h100"],
        ),
    ] = None
    gpu_memory_gib: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Memory of one GPU in GiB. `alignlaunch plan` compares a job's need with it, a job that "
            "cannot fit is not submitted, and `train.effective_batch_size` is split by it. By default not checked.",
            examples=[80],
        ),
    ] = None
    host_memory_gib: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Memory of one node in GiB. A job that cannot fit is not submitted. By default not checked.",
            examples=[2048],
        ),
    ] = None
    gpu_bandwidth_gbs: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Bandwidth in GB/s from one GPU to the others of its node (NVLink or PCIe). Only "
            "`alignlaunch plan` uses it, to estimate the time of communication.",
            examples=[450],
        ),
    ] = None
    network_bandwidth_gbs: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Bandwidth in GB/s from one node to the others, with all its network cards together. Only "
            "`alignlaunch plan` uses it, to estimate the time of communication.",
            examples=[50],
        ),
    ] = None
    host_bandwidth_gbs: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Bandwidth in GB/s between one GPU and the memory of its node (PCIe). Only `alignlaunch "
            "plan` uses it, to estimate the time of offloading.",
            examples=[50],
        ),
    ] = None
    storage_bandwidth_gbs: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Bandwidth in GB/s at which all nodes of a job together write checkpoints. `alignlaunch plan` "
            "estimates from it how long a save takes, and a submission says if `slurm.signal_seconds` is too short.",
            examples=[2],
        ),
    ] = None
    python: Annotated[
        NonEmptyStr | None,
        Meta(
            description="Path of the training environment's python on the nodes. By default the python that runs "
            "alignlaunch."
        ),
    ] = None
    modules: Annotated[
        list[NonEmptyStr],
        Meta(description="Environment modules to load on the nodes (`module load`).", examples=[["cuda/12.8"]]),
    ] = []
    container: Annotated[
        Container | None,
        Meta(description="Container that every Slurm task runs in. By default tasks run on the node itself."),
    ] = None
    network_interface: Annotated[
        NonEmptyStr | None,
        Meta(description="Network interface that NCCL and gloo use. By default they choose.", examples=["ib0"]),
    ] = None
    node_name_suffix: Annotated[
        SbatchValue | None,
        Meta(
            description="Suffix that makes a node's host name the name of its fast network interface, such as "
            "`-ib` for node1-ib.",
            examples=["-ib"],
        ),
    ] = None
    env: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="Environment variables of every process. Those of the job file override them."),
    ] = {}
    bad_nodes: Annotated[
        Annotated[
            str, Meta(pattern=r"^[/~].", description="an absolute path: every node and folder means the same file")
        ]
        | None,
        Meta(
            description="Shared file in which runs note nodes with faulty hardware; submissions leave "
            "these out for a week (`alignlaunch nodes`). By default a file of yours alone.",
            examples=["/shared/alignlaunch/bad_nodes.jsonl"],
        ),
    ] = None
    runs_dir: Annotated[
        NonEmptyStr,
        Meta(
            description="Folder, relative to the job file, in which each submission gets a folder of its own with "
            "the submitted files and the logs. All nodes must see it: it belongs on the shared file "
            "system."
        ),
    ] = "runs"


def find(name: str, job_dir: Path) -> Path:
    """The profile's file, from `clusters/` next to the job or the user's. Raises UsageError listing the profiles."""
    folders = _folders(job_dir)
    for folder in folders:
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = names(job_dir)
    remedy = f"use one of {', '.join(known)}" if known else "write one; `alignlaunch schema cluster` lists its keys"
    raise UsageError(f"--cluster {name}: no {name}.yaml in {' or '.join(map(str, folders))}\n    remedy: {remedy}")


def names(job_dir: Path) -> list[str]:
    """All profiles that a job file in this folder may name."""
    return sorted({path.stem for folder in _folders(job_dir) for path in folder.glob("*.yaml")})


def _folders(job_dir: Path) -> list[Path]:
    return [job_dir / "clusters", config_home() / "clusters"]


def load(path: Path) -> tuple[Cluster, dict[str, Any]]:
    """Read a profile. Returns (profile, the keys set in the file). Raises JobFileError with every problem in it."""
    document = yamlfile.read(path)
    if problems := [*rules.environment(document, document.data), *rules.sbatch_options(document, document.data)]:
        raise JobFileError([*schema.check(Cluster, document, document.data), *problems])
    return schema.convert(Cluster, document, document.data), document.data
