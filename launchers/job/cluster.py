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
    """What sbatch is asked for, named as sbatch names it. The job's keys win over the cluster profile's."""

    partition: Annotated[SbatchValue | None, Meta(description="Partition.", examples=["gpu"])] = None
    account: Annotated[SbatchValue | None, Meta(description="Account to charge.", examples=["lab"])] = None
    qos: Annotated[SbatchValue | None, Meta(description="Quality of service.", examples=["high"])] = None
    cpus_per_task: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="CPUs for each srun task.", examples=[16])
    ] = None
    mem: Annotated[
        SbatchValue | None, Meta(description="Host memory a node; 0 is all of it.", examples=["0", "64G"])
    ] = None
    signal_seconds: Annotated[
        int, Meta(ge=0, le=65535, description="USR2 arrives this long before the time limit.", examples=[300])
    ] = 300
    requeue: Annotated[bool, Meta(description="Queue again after preemption or a node's failure.")] = True
    extra: Annotated[
        list[SbatchOption], Meta(description="Any further sbatch options.", examples=[["--constraint=h100"]])
    ] = []


class Container(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The container that each task runs in."""

    runtime: Annotated[Literal["pyxis", "apptainer"], Meta(description="How the cluster starts containers.")]
    image: Annotated[NonEmptyStr, Meta(description="Image, as the runtime names it.", examples=["/images/train.sqsh"])]
    mounts: Annotated[
        list[NonEmptyStr], Meta(description="Further HOST:CONTAINER mounts.", examples=[["/data:/data"]])
    ] = []


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`clusters/NAME.yaml`. Every key has a default that fits a plain Slurm with one python for all nodes."""

    slurm: Slurm = Slurm()
    k8s: K8s | None = None
    device: Annotated[Literal["gpu", "cpu"], Meta(description="cpu: no GPUs are asked for; gloo is the backend.")] = (
        "gpu"
    )
    gpu_type: Annotated[SbatchValue | None, Meta(description="GPU type in --gres.", examples=["h100"])] = None
    gpu_memory_gib: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Memory of one GPU in GiB; `plan` and submissions check a job against it.", examples=[80]),
    ] = None
    host_memory_gib: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="Memory of one node in GiB.", examples=[2048])
    ] = None
    gpu_bandwidth_gbs: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="GB/s of one GPU to the others of its node (NVLink, PCIe).", examples=[450]),
    ] = None
    network_bandwidth_gbs: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="GB/s of one node to the others, all its network cards together.", examples=[50]),
    ] = None
    host_bandwidth_gbs: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="GB/s of one GPU to its host's memory (PCIe).", examples=[50]),
    ] = None
    python: Annotated[
        NonEmptyStr | None,
        Meta(description="python of the training environment; else the one that runs alignlaunch."),
    ] = None
    modules: Annotated[
        list[NonEmptyStr], Meta(description="Environment modules to load.", examples=[["cuda/12.8"]])
    ] = []
    container: Container | None = None
    network_interface: Annotated[
        NonEmptyStr | None, Meta(description="Interface for NCCL and gloo.", examples=["ib0"])
    ] = None
    node_name_suffix: Annotated[
        SbatchValue | None, Meta(description="Added to a node's name to reach its fast interface.", examples=["-ib"])
    ] = None
    env: Annotated[
        dict[str, str | int | float | bool], Meta(description="Environment of every task; the job's keys win.")
    ] = {}
    runs_dir: Annotated[
        NonEmptyStr, Meta(description="Where each submission keeps its copies and logs; on the shared file system.")
    ] = "runs"


def find(name: str, job_dir: Path) -> Path:
    """The profile's file, from `clusters/` next to the job or the user's. Raises UsageError listing the profiles."""
    folders = [job_dir / "clusters", config_home() / "clusters"]
    for folder in folders:
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    remedy = f"use one of {', '.join(known)}" if known else "write one; `alignlaunch schema cluster` lists its keys"
    raise UsageError(f"--cluster {name}: no {name}.yaml in {' or '.join(map(str, folders))}\n    remedy: {remedy}")


def load(path: Path) -> tuple[Cluster, dict[str, Any]]:
    """Read a profile. Returns (profile, the keys set in the file). Raises JobFileError with every problem in it."""
    document = yamlfile.read(path)
    if problems := [*rules.environment(document, document.data), *rules.sbatch_options(document, document.data)]:
        raise JobFileError([*schema.check(Cluster, document, document.data), *problems])
    return schema.convert(Cluster, document, document.data), document.data
