"""Nodes that were found faulty get no pod of a later submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .cli import User
from .cluster import Cluster

TERMS = "requiredDuringSchedulingIgnoredDuringExecution"


def terms(pod: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod["spec"]["affinity"]["nodeAffinity"][TERMS]["nodeSelectorTerms"]
    return found


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainJob"])
def test_no_pod_runs_there(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    cluster.need(kind)
    user = User(cluster, tmp_path)
    names = sorted(node.metadata.name for node in cluster.core.list_node().items)
    assert len(names) > 1
    for name in names[1:]:
        user.call("nodes", "--add", name, "--cause", "Xid 79")
    assert "Xid 79" in user.call("nodes").stdout
    cluster.fill_claim("data", tmp_path)
    job = user.write_job("sure", k8s={"kind": kind})
    said = user.call("k8s", job, "--cluster", "lab", "--no-data-check").stderr
    assert f"without {', '.join(names[1:])}: found faulty" in said
    cluster.wait(
        lambda: len([pod for pod in cluster.pods().values() if pod["spec"].get("nodeName")]) == 2,
        lambda: str(cluster.pods()),
    )
    assert {pod["spec"]["nodeName"] for pod in cluster.pods().values()} == {names[0]}


def test_what_the_job_asks_of_nodes_still_holds(cluster: Cluster, tmp_path: Path) -> None:
    cluster.need("PyTorchJob")
    user = User(cluster, tmp_path)
    first = min(node.metadata.name for node in cluster.core.list_node().items)
    wanted = {"kubernetes.io/hostname": first, "kubernetes.io/os": "none-such"}
    own = [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]} for key, value in wanted.items()]
    affinity = {"nodeAffinity": {TERMS: {"nodeSelectorTerms": own}}}
    cluster.fill_claim("data", tmp_path)
    job = user.write_job("picky", nnodes=1, k8s={"pod_patch": {"spec": {"affinity": affinity}}})
    user.call("nodes", "--add", first)
    handle = user.submit(job)
    reason = user.until(handle, "PENDING", reason="didn't match")["reason"]
    assert "node affinity" in reason
    (pod,) = cluster.pods().values()
    field = {"key": "metadata.name", "operator": "NotIn", "values": [first]}
    assert terms(pod) == [term | {"matchFields": [field]} for term in own]
