"""kubectl against the API: what people do by hand."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container, pytorchjob, replica

from .objects.resources import Obj

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom


@pytest.fixture
def manifest(cluster: Cluster) -> str:
    cluster.need("PyTorchJob")
    config_map: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job"}, "data": {"a": "b"}}
    job = pytorchjob("job", master=replica(1, container(cluster.image, "echo hello")))
    return str(yaml.safe_dump_all([config_map, job]))


def test_apply_is_idempotent_and_validates(cluster: Cluster, manifest: str) -> None:
    assert cluster.kubectl("apply", "-f", "-", stdin=manifest).stdout.split("\n")[:2] == [
        "configmap/job created",
        "pytorchjob.kubeflow.org/job created",
    ]
    assert cluster.kubectl("apply", "-f", "-", stdin=manifest).stdout.count("unchanged") == 2
    wrong = manifest.replace("replicas: 1", "replicas: 1\n      replika: 1").replace("name: job", "name: other")
    done = cluster.kubectl("apply", "-f", "-", stdin=wrong, code=1)
    assert 'unknown field "spec.pytorchReplicaSpecs.Master.replika"' in done.stderr


def test_a_server_side_dry_run_and_a_diff(cluster: Cluster, manifest: str) -> None:
    done = cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=manifest)
    assert "pytorchjob.kubeflow.org/job created (server dry run)" in done.stdout
    assert "kind: PyTorchJob" in cluster.kubectl("diff", "-f", "-", stdin=manifest, code=1).stdout
    assert "job" not in cluster.config_maps()


def test_server_side_apply_refuses_unknown_fields_by_itself(cluster: Cluster, manifest: str) -> None:
    applied = cluster.kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
    assert "pytorchjob.kubeflow.org/job serverside-applied" in applied.stdout
    wrong = manifest.replace("spec:\n  pytorch", "spec:\n  nonsense: 1\n  pytorch")
    apply = ["apply", "--server-side", "--validate=false", "-f", "-"]
    assert "nonsense" in cluster.kubectl(*apply, stdin=wrong, code=1).stderr


def test_get_wait_logs_and_delete(cluster: Cluster, manifest: str) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=manifest)
    cluster.kubectl("wait", "--for=condition=Succeeded", "pytorchjob/job", "--timeout=60s")
    assert cluster.kubectl("logs", "job-master-0").stdout == "hello\n"
    selector = "training.kubeflow.org/job-name=job"
    assert cluster.kubectl("get", "pods", "-l", selector, "-o", "name").stdout == "pod/job-master-0\n"
    listed = json.loads(cluster.kubectl("get", "pytorchjobs", "-o", "json").stdout)["items"]
    assert [job["metadata"]["name"] for job in listed] == ["job"]
    cluster.kubectl("delete", "-f", "-", stdin=manifest)
    assert "not found" in cluster.kubectl("get", "pytorchjob", "job", code=1).stderr
    cluster.wait(lambda: not cluster.pods())
