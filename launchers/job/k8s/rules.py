"""Rules that depend on the target: what Kubernetes needs of a job; elastic jobs are refused on all other targets."""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm
from posixpath import commonpath, normpath
from typing import TYPE_CHECKING, Any

from ...errors import Problem
from ..yamlfile import Document, Path_, dotted
from .spec import K8s

if TYPE_CHECKING:
    from ..job import Job

#: Where each pod mounts the job's ConfigMap, and shared memory.
CONFIG_DIR, SHM_DIR = "/etc/alignlaunch", "/dev/shm"  # noqa: S108 - a mount point of the pod
#: The names of these two volumes.
OWN_VOLUMES = ("config", "shm")
#: Keys that a TrainJob's runtime decides: the TrainJob API has no fields for them.
_NOT_OF_TRAINJOB = (
    *("image_pull_policy", "priority_class", "host_network", "scheduler_name", "min_available"),
    *("restart_policy", "backoff_limit", "ttl_seconds", "clean_pod_policy"),
)
_MAX_NAME = 63

#: A broken rule: path of the key, its value, the rule, the remedy.
Broken = tuple[Path_, Any, str, str]


def refused(document: Document, job: Job) -> dict[str, list[Problem]]:
    """{target: problems that prevent rendering `job` for it}; targets without problems are left out."""
    k8s = job.spec.k8s or K8s()
    broken = [*_needed(job, k8s), *_volumes(k8s), *_resources(k8s), *_nodes(job, k8s)]
    broken += _secrets(job, k8s, document.data.get("k8s"))
    broken += _train_job(job, k8s) if k8s.kind == "TrainJob" else _pytorch_job(k8s)
    problems = [Problem(document.place(path), dotted(path), *rest) for path, *rest in broken]
    found = {"k8s": problems} if problems else {}
    if job.elastic:
        rule, remedy = "an elastic number of nodes is for Kubernetes only", f"--set nnodes={job.nnodes}"
        elsewhere = [Problem(document.place(("nnodes",)), "nnodes", job.spec.nnodes, rule, remedy)]
        found |= {"bash": elsewhere, "slurm": elsewhere}
    return found


def _needed(job: Job, k8s: K8s) -> Iterator[Broken]:
    """What the job must configure because a pod lacks it: an image, the job file's folder, persistent storage."""
    if k8s.image is None:
        remedy = "in the job file or the cluster profile: `k8s: {image: REGISTRY/NAME:TAG}` (see Dockerfile)"
        yield ("k8s", "image"), None, "pods need an image", remedy
    relative = [path for path in job.paths if not path.startswith("/")]
    if relative and k8s.working_dir is None:
        rule = f"relative paths ({', '.join(relative[:3])}) start from the job file's folder, which a pod does not have"
        remedy = "name a folder in a mounted volume with the same contents, or give absolute paths"
        yield ("k8s", "working_dir"), None, rule, remedy
        return
    output = job.output_path("k8s")
    mounts = [normpath(volume.mount_path) for volume in k8s.volumes.values() if not volume.read_only]
    patched = k8s.patch or k8s.pod_patch  # a patch may mount a volume there
    if not patched and not any(commonpath([output, mount]) == mount for mount in mounts):
        rule = f"{output} is on no writable volume: the results would be deleted with the pod"
        yield ("output_dir",), None, rule, "mount one there: `k8s: {volumes: {NAME: {pvc: CLAIM, mount_path: PATH}}}`"


def _volumes(k8s: K8s) -> Iterator[Broken]:
    taken = {CONFIG_DIR: "the job's ConfigMap", SHM_DIR: "shared memory"}
    for name, volume in k8s.volumes.items():
        at: Path_ = ("k8s", "volumes", name)
        if sum(bool(source) for source in (volume.pvc, volume.host_path, volume.nfs, volume.empty_dir)) != 1:
            yield at, None, "a volume has one source", "give one of pvc, host_path, nfs, empty_dir"
        if name in OWN_VOLUMES:
            yield at, None, "alignlaunch uses this name for a volume of its own", "choose another name"
        place = normpath(volume.mount_path)
        if place in taken:
            yield (*at, "mount_path"), volume.mount_path, f"taken by {taken[place]}", "choose another path"
        taken[place] = f"volume {name}"


def _resources(k8s: K8s) -> Iterator[Broken]:
    for name, key in ((k8s.gpu_resource, "nproc_per_node"), ("cpu", "k8s.cpu"), ("memory", "k8s.memory")):
        if name in k8s.resources:
            yield ("k8s", "resources", name), None, "the job decides this by another key", f"use `{key}`"


def _secrets(job: Job, k8s: K8s, written: dict[str, Any] | None) -> Iterator[Broken]:
    """written: `k8s` of the job file. It may name only secrets that the job uses; a cluster profile may name more."""
    for i, name in enumerate(job.spec.secrets):
        if name not in k8s.secrets:
            rule = f"no Secret is named for {name}: a pod cannot take it from your shell"
            remedy = f"`k8s: {{secrets: {{{name}: {{name: SECRET, key: KEY}}}}}}` in the job file or cluster profile"
            yield ("secrets", i), None, rule, remedy
    for name in k8s.secrets:
        if name not in job.spec.secrets and written and name in (written.get("secrets") or {}):
            yield ("k8s", "secrets", name), None, "not one of the job's `secrets`", f"add it there: `secrets: [{name}]`"


def _nodes(job: Job, k8s: K8s) -> Iterator[Broken]:
    if k8s.min_available is not None and k8s.min_available > job.nnodes:
        rule = f"more pods than the job has ({job.nnodes})"
        yield ("k8s", "min_available"), k8s.min_available, rule, "lower it, or leave it out"
    if job.elastic and job.zero:
        rule = "ZeRO's shards cannot be loaded by another number of processes, which an elastic job may get"
        yield ("zero",), job.spec.zero, rule, "`zero: 0`, or a fixed number of nodes"
    if job.elastic:
        node, counts = job.per_device_batch_size * job.accumulation_steps, range(job.elastic[0], job.elastic[1] + 1)
        if uneven := [n for n in counts if any(first * node % n for first in counts)]:
            rule = (
                f"a step keeps its records when nodes come or go, and {uneven[0]} nodes cannot share evenly what "
                f"another number began with: {node} a process (per_device_train_batch_size x "
                "gradient_accumulation_steps)"
            )
            yield ("nnodes",), job.spec.nnodes, rule, f"make these a multiple of {lcm(*counts)}, or narrow the range"


def _pytorch_job(k8s: K8s) -> Iterator[Broken]:
    if k8s.runtime is not None:
        yield ("k8s", "runtime"), k8s.runtime, "only a TrainJob has a runtime", "remove it, or `kind: TrainJob`"


def _train_job(job: Job, k8s: K8s) -> Iterator[Broken]:
    for key in _NOT_OF_TRAINJOB:
        value = getattr(k8s, key)
        if value is not None and value is not False:
            yield ("k8s", key), value, "a TrainJob's runtime decides this", "remove it, or `kind: PyTorchJob`"
    if job.elastic:
        yield ("nnodes",), job.spec.nnodes, "a TrainJob cannot be elastic", "`kind: PyTorchJob`"
    # JobSet refuses a job if its longest pod name is not a DNS label (63 characters).
    longest = f"{job.object_name}-node-0-{job.nnodes - 1}-abcde"
    if len(longest) > _MAX_NAME:
        rule = f"too long for a TrainJob of {job.nnodes} nodes: its pods' names would have {len(longest)} letters"
        yield ("name",), job.spec.name, rule, f"shorten it by {len(longest) - _MAX_NAME}"
