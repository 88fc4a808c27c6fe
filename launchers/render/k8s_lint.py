"""Find what a cluster would refuse, or accept and never start, before anything is created there.

The training operator's webhook refuses some of it with 403; the rest shows up only as events while no pods appear. A
job file's own keys cannot break these rules, but its patches can, and so can a manifest edited by hand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from ..errors import JobFileError, Problem
from ..job.job import Job
from ..job.rules import looks_secret

#: (field of the manifest, rule that it breaks)
Refusal = tuple[str, str]

_DNS_1035 = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_RESTART_POLICIES = ("Always", "OnFailure", "Never", "ExitCode")
#: Variables that the operator sets in every pod; a TrainJob that sets one itself is refused.
_RENDEZVOUS = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
#: Kubernetes' limit on a ConfigMap's data: 1 MiB, so that the object fits into etcd.
_MAX_BYTES = 1 << 20
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


def require(job: Job, manifests: list[dict[str, Any]]) -> None:
    """Raise JobFileError listing everything in a job's manifests that a cluster would refuse."""
    found = [refusal for manifest in manifests for refusal in refusals(manifest)]
    if found:
        remedy = "correct `k8s.patch` or `k8s.pod_patch`"
        raise JobFileError([Problem(str(job.path), "k8s", None, f"{field}: {rule}", remedy) for field, rule in found])


def require_digest(job: Job, files: dict[str, str]) -> None:
    """Raise JobFileError unless the rendered manifests name every image by its digest; a tag could be moved."""
    manifests = [yaml.safe_load(text) for name, text in files.items() if name.endswith(".yaml")]
    remedy = "`docker buildx imagetools inspect IMAGE` prints its digest; write NAME@sha256:DIGEST"
    problems = [
        Problem(str(job.path), "k8s.image", image, "not a digest, as --require-digest asks for", remedy)
        for image in sorted({image for manifest in manifests for image in images(manifest)})
        if not _DIGEST.fullmatch(image)
    ]
    if problems:
        raise JobFileError(problems)


def images(manifest: dict[str, Any]) -> Iterator[str]:
    """Every image in a manifest."""
    trainer = _at(manifest, "spec", "trainer")
    containers = [one for _, template in _templates(manifest) for _, one in _containers(template)]
    yield from (str(one["image"]) for one in (trainer, *containers) if one.get("image"))


def refusals(manifest: dict[str, Any]) -> Iterator[Refusal]:
    """Everything in one manifest that a cluster would refuse or could not start."""
    kind = manifest.get("kind")
    name = str(_at(manifest, "metadata").get("name"))
    if kind == "ConfigMap":
        size = sum(len(text.encode()) for text in _at(manifest, "data").values())
        if size > _MAX_BYTES:
            yield "data", f"{size} bytes; a ConfigMap holds {_MAX_BYTES}"
        return
    if not _DNS_1035.fullmatch(name):
        yield "metadata.name", "lower-case letters, digits and `-`; starts with a letter; at most 63 characters"
    yield from _pytorch_job(manifest) if kind == "PyTorchJob" else _train_job(manifest)
    for place, template in _templates(manifest):
        yield from _pod(f"{place}.spec", _at(template, "spec"))


def _pytorch_job(manifest: dict[str, Any]) -> Iterator[Refusal]:
    spec = _at(manifest, "spec")
    replicas = _at(spec, "pytorchReplicaSpecs")
    if not str(spec.get("nprocPerNode", "")).isdigit():
        yield "spec.nprocPerNode", "a number is expected: with `auto` the operator counts one process a pod"
    if not replicas:
        yield "spec.pytorchReplicaSpecs", "must be given"
    if spec.get("elasticPolicy") and "Worker" not in replicas:
        yield "spec.pytorchReplicaSpecs.Worker", "must be given with an elasticPolicy"
    for role, replica in replicas.items():
        place = f"spec.pytorchReplicaSpecs.{role}"
        if role not in ("Master", "Worker"):
            yield place, "only Master and Worker are known"
        count = _at(replica).get("replicas")
        if role == "Master" and count != 1:
            yield f"{place}.replicas", "must be 1"
        if count is not None and (not isinstance(count, int) or count < 1):
            yield f"{place}.replicas", "must be at least 1"
        if _at(replica).get("restartPolicy", "OnFailure") not in _RESTART_POLICIES:
            yield f"{place}.restartPolicy", f"must be one of {', '.join(_RESTART_POLICIES)}: pods would never appear"
        containers = [one for _, one in _containers(_at(replica, "template"))]
        if "pytorch" not in [one.get("name") for one in containers]:
            yield f"{place}.template.spec.containers", "one must be named pytorch"
        if any(not one.get("image") for one in containers):
            yield f"{place}.template.spec.containers", "each must have an image"


def _train_job(manifest: dict[str, Any]) -> Iterator[Refusal]:
    if not _at(manifest, "spec", "runtimeRef").get("name"):
        yield "spec.runtimeRef.name", "must be given"
    trainer = _at(manifest, "spec", "trainer")
    for name in sorted(_RENDEZVOUS & {str(one.get("name")) for one in _list(trainer, "env")}):
        yield "spec.trainer.env", f"{name} is set by the runtime"
    yield from _variables("spec.trainer", trainer)
    for place, template in _templates(manifest):
        if any(_list(one, "env") for _, one in _containers(template) if one.get("name") == "node"):
            yield f"{place}.spec.containers", "variables of the container `node` belong into spec.trainer.env"


def _pod(place: str, spec: dict[str, Any]) -> Iterator[Refusal]:
    volumes = [one.get("name") for one in _list(spec, "volumes")]
    yield from ((f"{place}.volumes", f"{name}: given twice") for name in _repeated(volumes))
    for at, container in _containers({"spec": spec}):
        mounts = _list(container, "volumeMounts")
        yield from _variables(f"{place}.{at}", container)
        for path in _repeated([mount.get("mountPath") for mount in mounts]):
            yield f"{place}.{at}.volumeMounts", f"{path}: given twice"
        for mount in mounts:
            if mount.get("name") not in volumes:
                yield f"{place}.{at}.volumeMounts", f"there is no volume {mount.get('name')}"


def _variables(place: str, container: dict[str, Any]) -> Iterator[Refusal]:
    for variable in _list(container, "env"):
        name = str(variable.get("name"))
        if looks_secret(name) and variable.get("value"):
            yield f"{place}.env", f"{name} looks like a secret: give its valueFrom.secretKeyRef, never its value"


def _templates(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, pod template) of each template in a manifest, which need not be valid."""
    for role, replica in _at(manifest, "spec", "pytorchReplicaSpecs").items():
        yield f"spec.pytorchReplicaSpecs.{role}.template", _at(replica, "template")
    for patch in _list(_at(manifest, "spec"), "runtimePatches"):
        for job in _list(_at(patch, "trainingRuntimeSpec", "template", "spec"), "replicatedJobs"):
            yield "spec.runtimePatches", _at(job, "template", "spec", "template")


def _containers(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in ("initContainers", "containers"):
        yield from ((key, one) for one in _list(_at(template, "spec"), key))


def _at(value: Any, *keys: str) -> dict[str, Any]:
    """The map at a path; an empty one if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _list(value: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The items of a list that are maps; none if there is no list."""
    found = value.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _repeated(values: list[Any]) -> list[str]:
    return sorted(str(value) for value, count in Counter(map(str, values)).items() if count > 1)
