"""A job goes on when one of its pods is deleted, as by a drained node: it saves in the pod's grace period."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.matrix import matrix
from tests.support.tiny import TRAIN, make_model, write_data

from .cli import User
from .cluster import Cluster


@pytest.mark.parametrize(
    ("name", "keys", "steps", "pod"),
    [
        ("fixed", {"nnodes": 2}, 400, "fixed-worker-0"),
        matrix("elastic", {"nnodes": "2:2"}, 400, "elastic-worker-1"),
        matrix("one", {"nnodes": 1}, 2000, "one-master-0"),  # quicker than two
    ],
)
def test_no_step_is_lost(
    cluster: Cluster, tmp_path: Path, name: str, keys: dict[str, Any], steps: int, pod: str
) -> None:
    """The only checkpoint is the one that the deletion leads to."""
    cluster.need("PyTorchJob")
    user = User(cluster, tmp_path)
    make_model(tmp_path / "model")
    write_data(tmp_path)
    cluster.fill_claim("data", tmp_path)
    handle = user.submit(user.write_job(name, train=TRAIN | {"logging_steps": 1, "max_steps": steps}, **keys))
    user.until(handle, "RUNNING")
    cluster.wait(lambda: "step 4/" in user.call("logs", handle).stdout, timeout=300)
    before = cluster.pods()[pod]["metadata"]["uid"]
    cluster.delete("Pod", pod)
    cluster.wait(lambda: cluster.pods().get(pod, {}).get("metadata", {}).get("uid") not in (before, None))
    ended = user.until(handle, "COMPLETED", "FAILED", timeout=400)
    assert ended["state"] == "COMPLETED", user.call("logs", handle).stdout
    lines = cluster.read_claim("data", f"out/{name}/metrics.jsonl").decode().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records if "loss" in record] == list(range(1, steps + 1))
    assert [record["event"] for record in records if "event" in record][:2] == ["started", "resumed"]
