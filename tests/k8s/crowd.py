"""A busy namespace: thousands of jobs as alignlaunch submits them, with pods that wait and events that say why."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import yaml

from alignlaunch.launchers.backends.k8s.submission import RUN_LABEL
from alignlaunch.launchers.runs.records import Run, Status

from .standin.objects.resources import Obj

MANIFEST = Path(__file__).parents[1] / "goldens" / "k8s-cpu" / "k8s" / "job.pytorchjob.yaml"
ROLES = ("master", "worker")
WHY = "0/40 nodes are available: 40 Insufficient nvidia.com/gpu."


def runs(place: str, count: int) -> list[Run]:
    """The record of their submissions. place: `k8s://CONTEXT/NAMESPACE`."""
    return [
        Run(f"{place}/{_name(i)}", _name(i), f"/nowhere/{_name(i)}-{_run_id(i)}", "", status=Status("PENDING"))
        for i in range(count)
    ]


def objects(namespace: str, count: int) -> Iterator[Obj]:
    """So many jobs, each with two pods and one event. No operator looks at them, and no scheduler at their pods."""
    manifest: Obj = yaml.safe_load(MANIFEST.read_text())
    manifest["spec"]["runPolicy"]["managedBy"] = "kueue.x-k8s.io/multikueue"
    replicas = manifest["spec"]["pytorchReplicaSpecs"]
    replicas["Worker"] = replicas["Master"]
    for i in range(count):
        job = deepcopy(manifest)
        job["metadata"]["name"] = _name(i)
        job["metadata"]["labels"][RUN_LABEL] = _run_id(i)
        yield job
        yield from (_pod(replicas["Master"]["template"], _name(i), role) for role in ROLES)
        yield _event(namespace, f"{_name(i)}-master-0")


def _name(number: int) -> str:
    return f"crowd-{number:04d}"


def _run_id(number: int) -> str:
    return f"20261121-120000-{number:04x}"


def _pod(template: Obj, job: str, role: str) -> Obj:
    labels = {"job-name": job, "replica-type": role, "replica-index": "0"}
    own = {f"training.kubeflow.org/{key}": value for key, value in labels.items()}
    metadata = {"name": f"{job}-{role}-0", "labels": {**template["metadata"]["labels"], **own}}
    spec = {**template["spec"], "schedulingGates": [{"name": "alignlaunch/crowd"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _event(namespace: str, pod: str) -> Obj:
    involved = {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": namespace}
    told = {"type": "Warning", "reason": "FailedScheduling", "message": WHY, "lastTimestamp": "2026-11-21T12:00:00Z"}
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{pod}.1"}, "involvedObject": involved, **told}
