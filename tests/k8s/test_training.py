"""Two pods with two processes each, under the operator's environment, train the tiny model over gloo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.tiny import TRAIN

from .cluster import Cluster
from .manifests import pytorchjob, replica
from .standin.objects.resources import Obj

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom


def training_container(image: str) -> Obj:
    mounts = [
        {"name": "job", "mountPath": "/etc/alignlaunch", "readOnly": True},
        {"name": "data", "mountPath": "/data"},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 (the pod's)
    ]
    return {
        "name": "pytorch",
        "image": image,
        "command": ["torchrun", "-m", "alignlaunch.train", "/etc/alignlaunch/job.resolved.yaml"],
        "workingDir": "/data",
        "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}],
        "volumeMounts": mounts,
    }


def test_two_pods_of_two_processes_train(cluster: Cluster, workplace: Path) -> None:
    cluster.need("PyTorchJob")
    train = TRAIN | {"bf16": False, "logging_steps": 1}
    job = {"name": "tiny", "stage": "sft", "model": "model", "data": {"train": ["sft.jsonl"]}, "output_dir": "out"}
    cluster.fill_claim("data", workplace)
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tiny"}}
    volumes = [
        {"name": "job", "configMap": {"name": "tiny"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    one = replica(1, training_container(cluster.image), volumes=volumes)
    cluster.apply(
        {**config_map, "data": {"job.resolved.yaml": yaml.safe_dump({**job, "train": train})}},
        pytorchjob("tiny", master=one, worker=one, nprocPerNode="2", runPolicy={"backoffLimit": 1}),
    )
    ended = cluster.wait_condition("tiny", "Succeeded", "Failed", timeout=600)
    log = cluster.log("tiny-master-0")
    assert ended == "Succeeded", log + cluster.log("tiny-worker-0")
    assert "process 0 of 4 (torchrun)" in log
    records = [json.loads(line) for line in cluster.read_claim("data", "out/metrics.jsonl").decode().splitlines()]
    assert len([record for record in records if "loss" in record]) == 3


def test_elastic_workers_meet_at_worker_0(cluster: Cluster) -> None:
    """c10d as the operator sets it up: nobody is told a rank."""
    cluster.need("PyTorchJob")
    command = ["torchrun", "--no-python", "sh", "-c", "echo rank $RANK of $WORLD_SIZE; sleep 2"]
    worker = replica(2, {"name": "pytorch", "image": cluster.image, "command": command}, restart_policy="Never")
    policy = {"minReplicas": 2, "maxReplicas": 2, "maxRestarts": 1}
    cluster.apply(pytorchjob("elastic", worker=worker, elasticPolicy=policy, nprocPerNode="2"))
    assert cluster.wait_condition("elastic", "Succeeded", "Failed", timeout=600) == "Succeeded"
    cluster.wait(lambda: all(pod["status"]["phase"] == "Succeeded" for pod in cluster.pods().values()))
    said = [line for name in cluster.pods() for line in cluster.log(name).splitlines() if line.startswith("rank")]
    assert sorted(said) == [f"rank {rank} of 4" for rank in range(4)]
