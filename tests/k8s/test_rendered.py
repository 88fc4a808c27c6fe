"""What is rendered trains, applied by hand as the header of each manifest says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import jobfile
from tests.support.hostile import as_yaml
from tests.support.tiny import TRAIN

from .cluster import Cluster


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("kind", "nnodes", "pods"),
    [
        ("PyTorchJob", 2, ["tiny-master-0", "tiny-worker-0"]),
        ("PyTorchJob", "2:2", ["tiny-worker-0", "tiny-worker-1"]),
        ("TrainJob", 2, ["tiny-node-0-0", "tiny-node-0-1"]),
    ],
)
def test_two_pods_of_two_processes(
    cluster: Cluster, workplace: Path, tmp_path: Path, kind: str, nnodes: Any, pods: list[str]
) -> None:
    cluster.need(kind)
    cluster.fill_claim("data", workplace)
    volumes = {"data": {"pvc": "data", "mount_path": "/data"}}
    k8s = {"kind": kind, "image": cluster.image, "working_dir": "/data", "volumes": volumes, "cpu": 1, "memory": "2Gi"}
    keys: dict[str, Any] = {
        "name": "tiny",
        "stage": "sft",
        "model": "./model",
        "data": {"train": ["./sft.jsonl"]},
        "output_dir": "out",
    }
    keys |= {"nnodes": nnodes, "nproc_per_node": 2, "zero": 0, "lora": None, "k8s": k8s}
    keys |= {"env": {"HF_HUB_OFFLINE": "1"}, "train": TRAIN | {"bf16": False}}
    (tmp_path / "job.yaml").write_text(as_yaml(keys))
    (tmp_path / "clusters").mkdir(exist_ok=True)
    (tmp_path / "clusters" / "cpu.yaml").write_text("device: cpu\n")
    loaded = jobfile.load(tmp_path / "job.yaml", (), "cpu")
    folder = drift.folder_of(loaded, "k8s")
    drift.write(folder, drift.artifacts(loaded, "k8s", folder))

    cluster.kubectl("apply", "-f", str(folder))
    plural = {"PyTorchJob": "pytorchjobs", "TrainJob": "trainjobs"}[kind]
    ended = cluster.wait_condition("tiny", "Succeeded", "Complete", "Failed", plural=plural, timeout=400)
    # An elastic job is done with its first pod, and the operator then removes those that still run.
    logs = {pod: cluster.log(pod) for pod, found in cluster.pods().items() if found["status"]["phase"] != "Running"}
    assert ended in ("Succeeded", "Complete"), logs
    assert {next((start for start in pods if pod.startswith(start)), pod) for pod in logs} <= {*pods}
    assert all("[rank" in log for log in logs.values())
    records = [json.loads(line) for line in cluster.read_claim("data", "out/metrics.jsonl").decode().splitlines()]
    assert len([record for record in records if "loss" in record]) == 3
