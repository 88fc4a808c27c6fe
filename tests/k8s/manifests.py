"""Manifests by hand, as short as they can be."""

from __future__ import annotations

from typing import Any

from .standin.objects.resources import Obj


def container(image: str, script: str, **more: Any) -> Obj:
    """The training container, running a shell script."""
    return {"name": "pytorch", "image": image, "command": ["sh", "-c", script], **more}


def replica(count: int, *containers: Obj, restart_policy: str = "", **pod: Any) -> Obj:
    spec = {"terminationGracePeriodSeconds": 1, "containers": list(containers), **pod}
    return {"replicas": count, "template": {"spec": spec}} | (
        {"restartPolicy": restart_policy} if restart_policy else {}
    )


def pytorchjob(name: str, *, master: Obj | None = None, worker: Obj | None = None, **spec: Any) -> Obj:
    replicas = {"Master": master, "Worker": worker}
    present = {kind: one for kind, one in replicas.items() if one is not None}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name},
        "spec": {"pytorchReplicaSpecs": present, **spec},
    }
