"""Rendered manifests as data: apply the job's patches, and read a rendered folder back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError
from ..job.k8s import patch
from ..job.k8s.spec import K8s


def patched(job: dict[str, Any], k8s: K8s) -> dict[str, Any]:
    """The job's manifest with `pod_patch` applied to each pod template, then `patch` to the whole manifest."""
    job = json.loads(json.dumps(job))  # a deep copy, since Master and Worker share one template through a YAML anchor
    for holder in _template_holders(job):
        holder["template"] = patch.merge(holder["template"], k8s.pod_patch)
    result: dict[str, Any] = patch.merge(job, k8s.patch)
    return result


def _template_holders(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The maps with a key `template`: a PyTorchJob's replicas, or the part of the runtime that a TrainJob patches."""
    if job["kind"] == "PyTorchJob":
        return list(job["spec"]["pytorchReplicaSpecs"].values())
    patches = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]
    return [patches["replicatedJobs"][0]["template"]["spec"]]


def load_manifests(folder: Path) -> list[dict[str, Any]]:
    """The manifests of a rendered folder, in the order in which `kubectl apply -f` creates them.

    Raises UsageError for a file that cannot be read.
    """
    found = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            found += [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{path}: not a manifest: {error}\n    remedy: render again") from error
    manifests: list[dict[str, Any]] = json.loads(json.dumps(found))  # a deep copy: YAML anchors share objects
    return manifests
