"""An elastic job goes on when one of its pods is deleted, as by a drained node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.tiny import TRAIN, make_model, write_data

from .cli import User
from .cluster import Cluster

STEPS = 60


@pytest.mark.matrix
def test_a_pod_that_is_deleted(cluster: Cluster, tmp_path: Path) -> None:
    """The new pod and those that stayed meet again, and go on from the last checkpoint."""
    cluster.need("PyTorchJob")
    user = User(cluster, tmp_path)
    make_model(tmp_path / "model")
    write_data(tmp_path)
    cluster.fill_claim("data", tmp_path)
    train = TRAIN | {"logging_steps": 1, "max_steps": STEPS, "save_strategy": "steps", "save_steps": 2}
    handle = user.submit(user.write_job("elastic", nnodes="2:2", train=train))
    user.until(handle, "RUNNING")
    cluster.wait(lambda: "step 4/" in user.call("logs", handle).stdout, timeout=300)
    before = cluster.pods()["elastic-worker-1"]["metadata"]["uid"]
    cluster.delete("Pod", "elastic-worker-1")
    cluster.wait(
        lambda: cluster.pods().get("elastic-worker-1", {}).get("metadata", {}).get("uid") not in (before, None)
    )
    assert user.until(handle, "COMPLETED", "FAILED", timeout=400)["state"] == "COMPLETED", user.call(
        "logs", handle
    ).stdout
    lines = cluster.read_claim("data", "out/elastic/metrics.jsonl").decode().splitlines()
    steps = [record["step"] for record in map(json.loads, lines) if "loss" in record]
    assert steps[-1] == STEPS
    assert steps.count(1) == 1, "it began anew"
