"""The operator: which pods and services a PyTorchJob gets, and with which environment."""

from __future__ import annotations

import pytest

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container, pytorchjob, replica

pytestmark = [pytest.mark.matrix, pytest.mark.usefixtures("operator")]  # the stand-in itself: it changes seldom


PRINT = "env | grep -E '^(PET_|MASTER_|RANK|WORLD_SIZE|PYTHONUNBUFFERED)' | sort"


def environment(cluster: Cluster, pod: str) -> dict[str, str]:
    """What PRINT printed in a pod."""
    cluster.wait(lambda: cluster.pods().get(pod, {}).get("status", {}).get("phase") == "Succeeded")
    return dict(line.split("=", 1) for line in cluster.log(pod).splitlines())


def test_the_environment_with_a_master(cluster: Cluster) -> None:
    """RANK is the pod's index, and the user's own value loses."""
    own = [{"name": "RANK", "value": "7"}, {"name": "PET_NNODES", "value": "9"}]
    one = replica(1, container(cluster.image, PRINT, env=own), restart_policy="Never")
    two = replica(2, container(cluster.image, PRINT, env=own), restart_policy="Never")
    cluster.apply(pytorchjob("env", master=one, worker=two, nprocPerNode="8"))
    expected = {
        **{"PYTHONUNBUFFERED": "1", "MASTER_ADDR": "env-master-0", "PET_MASTER_ADDR": "env-master-0"},
        **{"MASTER_PORT": "23456", "PET_MASTER_PORT": "23456", "PET_NNODES": "3", "PET_NPROC_PER_NODE": "8"},
        "WORLD_SIZE": "24",
    }
    for rank, pod in enumerate(["env-master-0", "env-worker-0"]):
        found = environment(cluster, pod)
        assert found == {**expected, "RANK": str(rank), "PET_NODE_RANK": str(rank)}
        if rank == 0:  # workers may come too late to find the master
            labels = cluster.pods()[pod]["metadata"]["labels"]
            assert labels["training.kubeflow.org/job-name"] == "env"
            assert labels["training.kubeflow.org/job-role"] == "master"
            break


def test_the_world_size_of_auto_counts_pods(cluster: Cluster) -> None:
    one = replica(1, container(cluster.image, PRINT), restart_policy="Never")
    cluster.apply(pytorchjob("auto", master=one))
    found = environment(cluster, "auto-master-0")
    assert (found["WORLD_SIZE"], found["PET_NPROC_PER_NODE"], found["PET_NNODES"]) == ("1", "auto", "1")


def test_the_environment_with_an_elastic_policy(cluster: Cluster) -> None:
    policy = {"minReplicas": 1, "maxReplicas": 3, "maxRestarts": 2, "rdzvConf": [{"key": "timeout", "value": "9"}]}
    ports = [{"name": "pytorchjob-port", "containerPort": 29400}]
    workers = replica(2, container(cluster.image, PRINT, ports=ports), restart_policy="Never")
    cluster.apply(pytorchjob("elastic", worker=workers, elasticPolicy=policy, nprocPerNode="4"))
    assert environment(cluster, "elastic-worker-0") == {
        "PYTHONUNBUFFERED": "1",
        "PET_NPROC_PER_NODE": "4",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "elastic-worker-0:29400",
        "PET_NNODES": "1:3",
        "PET_MAX_RESTARTS": "2",
        "PET_RDZV_CONF": "timeout=9",
    }


def test_workers_alone_get_no_address_and_no_rank(cluster: Cluster) -> None:
    workers = replica(2, container(cluster.image, PRINT), restart_policy="Never")
    cluster.apply(pytorchjob("alone", worker=workers, nprocPerNode="2"))
    found = environment(cluster, "alone-worker-1")
    assert found == {"PYTHONUNBUFFERED": "1", "PET_NNODES": "2", "PET_NPROC_PER_NODE": "2"}
    assert cluster.wait_condition("alone", "Succeeded", "Failed") == "Succeeded"


def test_workers_wait_for_the_name_of_the_master(cluster: Cluster) -> None:
    master = replica(1, container(cluster.image, "sleep 4"))
    worker = replica(1, container(cluster.image, "getent hosts job-master-0 && hostname"))
    cluster.apply(pytorchjob("job", master=master, worker=worker))
    assert cluster.wait_condition("job", "Running") == "Running"
    cluster.wait(lambda: cluster.pods()["job-worker-0"]["status"]["phase"] == "Succeeded")
    pods = cluster.pods()
    init = pods["job-worker-0"]["spec"]["initContainers"]
    assert [(one["name"], one["image"]) for one in init] == [("init-pytorch", "alpine:3.10")]
    address, name, *_ = cluster.log("job-worker-0").split()
    assert address == pods["job-master-0"]["status"]["podIP"]
    assert name == f"job-master-0.{cluster.namespace}.svc.cluster.local"
    assert cluster.log("job-worker-0").splitlines()[-1] == "job-worker-0"
    services = cluster.core.list_namespaced_service(cluster.namespace).items
    found = {one.metadata.name: (one.spec.cluster_ip, one.spec.ports[0].port) for one in services}
    assert found == {"job-master-0": ("None", 23456), "job-worker-0": ("None", 23456)}
    assert cluster.owners("pod", "job-worker-0") == [("PyTorchJob", "job")]
