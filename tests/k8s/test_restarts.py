"""A job goes on when one of its processes dies: in its pods, or with a new one where the launcher of a pod died."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny import TRAIN, make_model, write_data

from .cli import User
from .cluster import Cluster

pytestmark = pytest.mark.matrix  # tests/train/test_restarts.py has what is not Kubernetes' own

STEPS = 400
#: Runs in every python of the pods: once, rank RANK kills itself or its launcher after a few steps.
KILLER = """
import os, signal, sys, threading, time

def kill():
    records, mark = "out/{name}/metrics.jsonl", "out/{name}/killed"
    while True:
        time.sleep(0.02)
        if os.path.exists(records) and '"step": 26,' in open(records).read():
            try:
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

# Not in the process that watches a rank: it has these variables, too.
if os.environ.get("RANK") == "{rank}" and "alignlaunch.train" in sys.orig_argv and "LOCAL_RANK" in os.environ:
    threading.Thread(target=kill, daemon=True).start()
"""
TRAINED = TRAIN | {"logging_steps": 1, "max_steps": STEPS, "save_strategy": "steps", "save_steps": 20}


def prepared(cluster: Cluster, folder: Path) -> User:
    cluster.need("PyTorchJob")
    user = User(cluster, folder)
    make_model(folder / "model")
    write_data(folder)
    return user


def is_whole(cluster: Cluster, user: User, handle: str, name: str) -> None:
    """The job has completed, after one restart; no step is missing or there twice."""
    ended = user.until(handle, "COMPLETED", "FAILED", timeout=400)
    assert ended["state"] == "COMPLETED", user.call("logs", handle).stdout
    lines = cluster.read_claim("data", f"out/{name}/metrics.jsonl").decode().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records if "loss" in record] == list(range(1, STEPS + 1))
    assert [record["event"] for record in records if "event" in record] == ["started", "resumed"]


@pytest.mark.parametrize(
    ("name", "nodes", "rank"), [("fixed", 2, 1), ("fixed-first", 2, 0), ("elastic", "2:2", 1), ("one", 1, 0)]
)
def test_a_process_that_is_killed_is_started_again_in_its_pod(
    cluster: Cluster, tmp_path: Path, name: str, nodes: Any, rank: int
) -> None:
    user = prepared(cluster, tmp_path)
    (tmp_path / "sitecustomize.py").write_text(KILLER.format(name=name, rank=rank))
    cluster.fill_claim("data", tmp_path)
    handle = user.submit(user.write_job(name, train=TRAINED, nnodes=nodes, env={"PYTHONPATH": "."}))
    is_whole(cluster, user, handle, name)
    assert "restarting the processes in place" in user.call("logs", handle).stdout


@pytest.mark.parametrize(("name", "pod"), [("lost", "lost-worker-0"), ("first-lost", "first-lost-master-0")])
def test_a_pod_that_is_lost_is_replaced(cluster: Cluster, tmp_path: Path, name: str, pod: str) -> None:
    """Without a moment to save, as when its node dies; the first one hosts the rendezvous."""
    user = prepared(cluster, tmp_path)
    cluster.fill_claim("data", tmp_path)
    k8s = {"pod_patch": {"spec": {"terminationGracePeriodSeconds": 0}}}
    handle = user.submit(user.write_job(name, train=TRAINED, k8s=k8s))
    user.until(handle, "RUNNING")
    cluster.wait(lambda: "step 26/" in user.call("logs", handle).stdout, timeout=300)
    cluster.delete("Pod", pod)
    is_whole(cluster, user, handle, name)
