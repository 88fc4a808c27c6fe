"""The job: one YAML and a cluster profile, validated, every default filled in, frozen."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from alignlaunch.train.config import Count, Data, Lora, NonEmptyStr, Stage, rewards_read

from . import cluster as clusters
from . import defaults, legacy, references, rules, schema, yamlfile, zerorules
from . import zero as zeros
from .cluster import Cluster, Slurm
from .errors import JobFileError, Problem, UsageError
from .k8s import patch
from .k8s import rules as k8s_rules
from .k8s.spec import K8s
from .yamlfile import Document
from .zero import ZeroConfig, ZeroError

#: A DNS-1035 label, as Kubernetes wants it; short enough for the suffixes that are added to it.
Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?\Z",
        description="Lower-case letters, digits and `-`; starts with a letter; at most 50 characters.",
        examples=["qwen3-orpo"],
    ),
]
TimeLimit = Annotated[
    str,
    Meta(
        pattern=r"^(([0-9]{1,3}-)?[0-9]{1,6}(:[0-9]{2}){0,2}|UNLIMITED)\Z",
        description="Time limit: HH:MM:SS, D-HH:MM:SS, minutes or UNLIMITED, in quotes.",
        examples=["12:00:00"],
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


class Step(NamedTuple):
    """The entry of a pipeline file that a job was made from."""

    pipeline: Path
    name: str


@dataclass(frozen=True)
class Job:
    """A validated job at a place. Everything that templates need is an attribute; they do no arithmetic."""

    spec: JobSpec
    cluster: Cluster
    path: Path  # the job file
    digest: str  # sha256 of the job file's bytes
    cluster_name: str | None
    cluster_digest: str | None
    overrides: tuple[str, ...]
    zero: ZeroConfig | None
    notes: list[str] = field(default_factory=list)
    step: Step | None = None  # where the pipeline file makes the job another one than its job file says
    upcoming: tuple[str, ...] = ()  # outputs of the pipeline's earlier steps, as this job's paths name them
    refused: dict[str, list[Problem]] = field(default_factory=dict)  # target → why it cannot take this job

    @property
    def dir(self) -> Path:
        """The job file's folder: every relative path in it, and every process, starts from here."""
        return self.path.parent

    def output_path(self, target: str) -> str:
        """The output folder from the root: that of this file system, or on Kubernetes of a pod's."""
        if target == "k8s":
            home = self.spec.k8s.working_dir if self.spec.k8s else None
            return posixpath.normpath(posixpath.join(home or "/", self.spec.output_dir))
        return str((self.dir / self.spec.output_dir).resolve())

    @property
    def elastic(self) -> tuple[int, int] | None:
        """The fewest and the most nodes of an elastic job; None where the number is fixed."""
        return nnodes_range(self.spec.nnodes) if isinstance(self.spec.nnodes, str) else None

    @property
    def nnodes(self) -> int:
        """Nodes; of an elastic job the most."""
        return nnodes_range(self.spec.nnodes)[1]

    @property
    def world_size(self) -> int:
        return self.nnodes * self.spec.nproc_per_node

    @property
    def per_device_batch_size(self) -> int:
        """Examples in one forward pass of one process (transformers' default is 8)."""
        return int(self.spec.train.get("per_device_train_batch_size", 8))

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches in one optimizer step (transformers' default is 1)."""
        return int(self.spec.train.get("gradient_accumulation_steps", 1))

    @property
    def effective_batch_size(self) -> int:
        """Examples in one optimizer step, over all processes."""
        return self.per_device_batch_size * self.world_size * self.accumulation_steps

    @property
    def env(self) -> dict[str, str]:
        """Environment of every process, as text."""
        return {name: _env_text(value) for name, value in self.spec.env.items()}

    @property
    def reward_models(self) -> dict[str, str]:
        """The reward models that a safe_dpo job reads, which are always folders: {key under `train:`: path}."""
        names = rewards_read(self.spec.train) if self.spec.stage == "safe_dpo" else ()
        keys = [f"{name}_reward_model" for name in names]
        return {key: self.spec.train[key] for key in keys if self.spec.train.get(key)}

    @property
    def paths(self) -> list[str]:
        """What the job reads and writes by path, as the job file has it; hub ids are left out."""
        spec = self.spec
        sources = [source.path for role in ("train", "validation") for source in spec.data.sources(role)]
        named = [spec.model, spec.tokenizer, *sources, spec.data.cache_dir]
        read = (path for path in named if path and looks_like_path(path))
        return [*read, *self.reward_models.values(), spec.output_dir]

    @property
    def signal_seconds(self) -> int:
        """How long before the time limit Slurm warns; 0 where the whole job is shorter than that."""
        limit = seconds(self.spec.time) if self.spec.time else None
        wanted = self.spec.slurm.signal_seconds
        return 0 if limit is not None and limit <= wanted else wanted

    def preflight_seconds(self, target: str) -> int:
        """For how long a node waits for the others before it starts the launcher; 0: it does not look for them."""
        if self.elastic:  # its nodes may come and go
            return 0
        asked = self.spec.preflight_timeout
        prompt = target == "slurm" and self.cluster.container is None
        return asked if asked is not None else 60 if prompt else 900

    @property
    def tasks_per_node(self) -> int:
        """srun tasks on each node: a launcher starts the processes itself, `direct` gives each its own task."""
        return self.spec.nproc_per_node if self.spec.launcher == "direct" else 1

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as job.resolved.yaml holds it: the entrypoint's only input."""
        data: dict[str, Any] = msgspec.to_builtins(self.spec)
        data["deepspeed"] = self.zero.file_name if self.zero else None
        data["env"] = self.env
        return data


def nnodes_range(nnodes: int | str) -> tuple[int, int]:
    """ "2:4" → (2, 4); 2 → (2, 2)."""
    least, _, most = str(nnodes).partition(":")
    return int(least), int(most or least)


def looks_like_path(text: str) -> bool:
    """Whether a value that may be a hub id ("org/name") can only be a path."""
    return text.startswith((".", "/")) or text.endswith((".json", ".jsonl", ".parquet", ".txt"))


def seconds(limit: str) -> int | None:
    """Slurm's time limit in seconds: minutes, M:SS, H:MM:SS, D-H, D-H:MM, D-H:MM:SS; None for UNLIMITED."""
    if limit == "UNLIMITED":
        return None
    days, dash, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    units = (3600, 60, 1) if dash or len(parts) > 2 else (60, 1)  # after days come hours; alone, it is minutes
    return int(days or 0) * 86400 + sum(part * unit for part, unit in zip(parts, units, strict=False))


def _env_text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def load(path: Path, overrides: tuple[str, ...] = (), cluster_name: str | None = None) -> Job:
    """Read, override, fill in and check a job file.

    overrides: `a.b=c`, the value read as YAML. Raises JobFileError with every problem, UsageError for a bad override.
    """
    document = read(path)
    for override_ in overrides:
        override(document, override_, override_)
    return build(document, overrides, cluster_name, known=references.stray(document))


def read(path: Path) -> Document:
    """The job file as it is. Raises JobFileError, UsageError."""
    if not path.name.isprintable():  # it stands in comments of shell scripts, where a line break would end the comment
        raise UsageError(f"{path.name!r}: a job file's name must be printable text\n    remedy: rename it")
    return yamlfile.read(path)


def build(
    document: Document,
    overrides: tuple[str, ...],
    cluster_name: str | None,
    *,
    step: Step | None = None,
    upcoming: tuple[str, ...] = (),
    known: Sequence[Problem] = (),
) -> Job:
    """A job from what its file holds and `overrides` changed: fill in and check. Errors as `load`.

    known: problems that were found already.
    """
    path = Path(document.name)
    cluster, cluster_digest = Cluster(), None
    cluster_data: dict[str, Any] = {}
    if cluster_name:
        cluster_path = clusters.find(cluster_name, path.parent)
        cluster, cluster_data = clusters.load(cluster_path)
        cluster_digest = hashlib.sha256(cluster_path.read_bytes()).hexdigest()

    notes, problems = legacy.apply(document)
    problems += known
    stage = document.data.get("stage")
    data = document.data
    if isinstance(stage, str) and stage in defaults.STAGES:
        data = defaults.merged(stage, data)
        _fit_to_data(data, document)
        problems += rules.trainer_arguments(stage, document, data)
    else:
        data = {"nnodes": 1, "nproc_per_node": 1, "launcher": "torchrun", "zero": 0, **data}
    _take_from_cluster(data, cluster_data)
    data.setdefault("output_dir", f"output/{data.get('name')}")
    if data.get("lora") is False:
        data["lora"] = None
    if isinstance(data.get("data"), dict):
        _as_lists(data["data"])
    problems += schema.check(JobSpec, document, data)
    problems += rules.environment(document, data)
    problems += rules.sbatch_options(document, data)
    zero = None
    if not [p for p in problems if p.key in ("zero", "offload")]:
        zero, zero_problems = _zero_config(document, data, path.parent)
        problems += zero_problems
    problems += rules.combinations(document, data)
    problems += rules.sources(document, data.get("data"))
    problems += rules.best_model(document, data)
    if problems:
        raise JobFileError(in_order(problems))
    job = Job(
        spec=msgspec.convert(data, JobSpec),
        cluster=cluster,
        path=path,
        digest=document.digest,
        cluster_name=cluster_name,
        cluster_digest=cluster_digest,
        overrides=overrides,
        zero=zero,
        notes=notes,
        step=step,
        upcoming=upcoming,
    )
    return replace(job, refused=k8s_rules.refused(document, job))


def in_order(problems: list[Problem]) -> list[Problem]:
    """Problems by file and line, --set last; without repeats (the same key can break one rule twice)."""
    return sorted({str(problem): problem for problem in problems}.values(), key=_place)


def _place(problem: Problem) -> tuple[bool, str, int, int]:
    match = re.fullmatch(r"(.*):(\d+):(\d+)", problem.place)
    return (False, match[1], int(match[2]), int(match[3])) if match else (True, "", 0, 0)


def override(document: Document, assignment: str, given: str) -> None:
    """Put `a.b=c` into the document. `given` is what the user wrote after --set, a step's name before it or not."""
    key, equals, text = assignment.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", key):
        raise UsageError(f"--set {given}: not KEY=VALUE\n    remedy: for example --set train.max_steps=10")
    if not text.isascii() and text.encode(errors="ignore").decode() != text:
        raise UsageError(f"--set {given!a}: not UTF-8 text\n    remedy: write it as UTF-8")
    legacy.put(document, tuple(key.split(".")), yamlfile.parse_value(text, key), f"--set {given}")


def _take_from_cluster(data: dict[str, Any], cluster: dict[str, Any]) -> None:
    """The profile's keys under the job's own; of sbatch the extras of both, the job's last."""
    for key in ("slurm", "env"):
        below, above = cluster.get(key, {}), data.get(key, {})
        if isinstance(above, dict):
            data[key] = {**below, **above}
    if isinstance(cluster.get("k8s"), dict) and isinstance(data.get("k8s", {}), dict):
        data["k8s"] = patch.over(cluster["k8s"], data.get("k8s", {}))
    below, above = cluster.get("slurm", {}).get("extra"), data.get("slurm", {})
    if below and isinstance(above, dict) and isinstance(above["extra"], list) and above["extra"] is not below:
        above["extra"] = [*below, *above["extra"]]


def _as_lists(data: dict[str, Any]) -> None:
    """`train: a,b` is how the documents write several folders; a list is how the schema has it."""
    for key in ("train", "validation"):
        if isinstance(data.get(key), str):
            data[key] = [part.strip() for part in data[key].split(",") if part.strip()]


def _fit_to_data(data: dict[str, Any], document: Document) -> None:
    """The stage's evaluation defaults make no sense without validation data."""
    sources, train = data.get("data"), data.get("train")
    if not isinstance(sources, dict) or not isinstance(train, dict):
        return
    if not sources.get("validation") and sources.get("validation_share") is None:
        for key in ("eval_strategy", "eval_steps"):
            if ("train", key) not in document.values:
                train.pop(key, None)


def _zero_config(document: Document, data: dict[str, Any], job_dir: Path) -> tuple[ZeroConfig | None, list[Problem]]:
    try:
        if isinstance(data["zero"], str):
            path = job_dir / data["zero"]
            zero = zeros.custom(path, data.get("offload", "none"))
            return zero, zerorules.check(str(path), zero, data)
        return zeros.named(data["zero"], data.get("offload", "none")), []
    except ZeroError as error:
        return None, [Problem(document.place((error.key,)), error.key, data.get(error.key), error.rule, error.remedy)]
