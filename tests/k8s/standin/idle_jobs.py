"""PyTorchJobs that never run, and with which words the API server refuses one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container, pytorchjob, replica

from .objects.resources import Obj

GROUP = ("kubeflow.org", "v1")


def status_of(refused: pytest.ExceptionInfo[ApiException]) -> Obj:
    """The body of a refusal."""
    status: Obj = json.loads(str(refused.value.body))
    return status


def tiny(name: str = "tiny", **spec: Any) -> Obj:
    """A job that never runs."""
    master = replica(1, container("nowhere.invalid/x:1", "true"))
    return pytorchjob(name, master=master, runPolicy={"suspend": True}, **spec)


def create(cluster: Cluster, job: Obj, **options: Any) -> Obj:
    created: Obj = cluster.custom.create_namespaced_custom_object(
        *GROUP, cluster.namespace, "pytorchjobs", job, **options
    )
    return created


def refusal(cluster: Cluster, job: Obj, **options: Any) -> Obj:
    """The Status with which a job is refused; its code is that of the answer."""
    with pytest.raises(ApiException) as refused:
        create(cluster, job, **options)
    status = status_of(refused)
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", refused.value.status)
    return status
