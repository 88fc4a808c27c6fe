"""A job: its keys with every default filled in, and everything that templates need. Frozen."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from alignlaunch.train.config import Choice, checkpoint_named, rewards_read

from ..errors import Problem
from ..zero import ZeroConfig
from .cluster import Cluster
from .spec import JobSpec, Scalar

#: Letters of a variant's name on Kubernetes, where a pod's name adds up to 19.
_LONGEST_VARIANT = 44


class Step(NamedTuple):
    """The entry of a pipeline file that a job was made from."""

    pipeline: Path
    name: str


class Point(NamedTuple):
    """A point of a sweep that a job is.

    label: what it is called in the sweep; changes: its keys with their values; most: how many points run at once.
    """

    sweep: str
    label: str
    changes: dict[str, Any]
    most: int | None


@dataclass(frozen=True)
class Job:
    """A validated job. Everything that templates need is an attribute, so that they do no arithmetic."""

    spec: JobSpec
    cluster: Cluster
    path: Path  # the job file
    cluster_name: str | None
    overrides: tuple[str, ...]
    zero: ZeroConfig | None
    notes: list[str] = field(default_factory=list)
    batch: str = ""  # with `train.effective_batch_size`: how micro-batch and accumulation came about, for people
    step: Step | None = None  # set if the pipeline file changes what the job file says
    point: Point | None = None
    choices: tuple[Choice, ...] = ()  # outputs of earlier steps of which the best is taken when the run starts
    upcoming: tuple[str, ...] = ()  # outputs of earlier pipeline steps, which need not exist yet
    varies: tuple[str, ...] = ()  # of a variant: how it differs from the committed job, a line for each key
    refused: dict[str, list[Problem]] = field(default_factory=dict)  # target → why it cannot take this job

    @property
    def digest(self) -> str:
        """sha256 of what the job says: every key with its value, however the job file is worded."""
        return _digest([self.resolved(), self.zero.text if self.zero else ""])

    @property
    def cluster_digest(self) -> str:
        """sha256 of what the cluster profile says."""
        return _digest(msgspec.to_builtins(self.cluster))

    @property
    def dir(self) -> Path:
        """The job file's folder: every relative path in it, and every process, starts from here."""
        return self.path.parent

    @property
    def family(self) -> str:
        """The sweep that the job is a point of, or else its own name: it names its folder in `launch/`."""
        return self.point.sweep if self.point else self.spec.name

    def folder(self, target: str) -> str:
        """The folder of its files under version control, from the job file's."""
        return f"launch/{self.family}/{target}{f'/{self.point.label}' if self.point else ''}"

    def output_path(self, target: str) -> str:
        """The absolute output folder: on this file system; for Kubernetes, in the pod's."""
        if target == "k8s":
            home = self.spec.k8s.working_dir if self.spec.k8s else None
            return posixpath.normpath(posixpath.join(home or "/", self.spec.output_dir))
        return str((self.dir / self.spec.output_dir).resolve())

    @property
    def object_name(self) -> str:
        """The name of its objects on Kubernetes, a DNS-1035 label, which a variant's name need not be."""
        name = re.sub(r"[^a-z0-9]+", "-", self.spec.name.lower())
        if name == self.spec.name or len(name) <= _LONGEST_VARIANT:
            return name.strip("-")
        return f"{name[: _LONGEST_VARIANT - 7].strip('-')}-{sha256(self.spec.name.encode()).hexdigest()[:6]}"

    @property
    def elastic(self) -> tuple[int, int] | None:
        """(fewest, most) nodes of an elastic job; None if the number is fixed."""
        return nnodes_range(self.spec.nnodes) if isinstance(self.spec.nnodes, str) else None

    @property
    def nnodes(self) -> int:
        """Number of nodes; for an elastic job the most."""
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
        """The paths that the job reads and writes, as written in the job file; hub ids are left out."""
        spec = self.spec
        sources = [source.path for role in ("train", "validation") for source in spec.data.sources(role)]
        named = [spec.model, spec.tokenizer, *sources, spec.data.cache_dir, checkpoint_named(spec.resume)]
        read = (path for path in named if path and looks_like_path(path))
        local = spec.checkpoint.local if spec.checkpoint else None
        return [*read, *self.reward_models.values(), spec.output_dir, *([local] if local else [])]

    @property
    def signal_seconds(self) -> int:
        """Seconds before the time limit at which Slurm sends USR2; 0 (no signal) if the time limit is no longer."""
        limit = seconds(self.spec.time) if self.spec.time is not None else None
        wanted = self.spec.slurm.signal_seconds
        return 0 if limit is not None and limit <= wanted else wanted

    def preflight_seconds(self, target: str) -> int:
        """How long preflight waits for the other nodes before the launcher starts; 0: no preflight."""
        if self.elastic:  # no fixed set of nodes to wait for
            return 0
        given = self.spec.preflight_timeout
        prompt = target == "slurm" and self.cluster.container is None
        return given if given is not None else 60 if prompt else 900

    @property
    def tasks_per_node(self) -> int:
        """srun tasks on each node: one launcher, which starts the processes; with `direct` one task a process."""
        return self.spec.nproc_per_node if self.spec.launcher == "direct" else 1

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, the content of job.resolved.yaml: the training entrypoint's only input."""
        data: dict[str, Any] = msgspec.to_builtins(self.spec)
        del data["sweep"]  # which training does not read: a point is a job like any other
        if self.choices:
            data["choices"] = [msgspec.to_builtins(choice) for choice in self.choices]
        data["deepspeed"] = self.zero.file_name if self.zero else None
        data["env"] = self.env
        return data


def origin(job: Job, others: Iterable[Job]) -> Job:
    """The first job of the chain that leads to `job`, in which each starts from the model that another one makes."""
    makers = {other.output_path("bash"): other for other in others}
    while True:
        model = next((choice.among[0] for choice in job.choices if choice.link == job.spec.model), job.spec.model)
        before = makers.get(str((job.dir / model).resolve()))
        if before is None or before is job:
            return job
        job = before


def _digest(said: Any) -> str:
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def nnodes_range(nnodes: int | str) -> tuple[int, int]:
    """ "2:4" → (2, 4); 2 → (2, 2)."""
    least, _, most = str(nnodes).partition(":")
    return int(least), int(most or least)


def looks_like_path(text: str) -> bool:
    """Whether a value that might also be a hub id ("org/name") is certainly a path."""
    return text.startswith((".", "/")) or text.endswith((".json", ".jsonl", ".parquet", ".txt"))


def seconds(limit: int | str) -> int | None:
    """Slurm's time limit in seconds: minutes, M:SS, H:MM:SS, D-H, D-H:MM, D-H:MM:SS; None for 0 and UNLIMITED."""
    text = str(limit)
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return None
    days, dash, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    units = (3600, 60, 1) if dash or len(parts) > 2 else (60, 1)  # after days the first part is hours, else minutes
    return int(days or 0) * 86400 + sum(part * unit for part, unit in zip(parts, units, strict=False)) or None


def _env_text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
