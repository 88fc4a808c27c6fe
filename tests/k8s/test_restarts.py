"""A job goes on when one of its processes dies: in its pods, or with a new one where the launcher of a pod died."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.matrix import matrix
from tests.support.tiny import TRAIN, make_model, write_data

from .cli import User
from .cluster import Cluster

STEPS = 250
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
            os.kill({victim}, signal.SIGKILL)

# Not in the process that watches a rank: it has these variables, too.
if os.environ.get("RANK") == "{rank}" and "alignlaunch.train" in sys.orig_argv and "LOCAL_RANK" in os.environ:
    threading.Thread(target=kill, daemon=True).start()
"""
RANK, LAUNCHER = "os.getpid()", "os.getppid()"


@pytest.mark.parametrize(
    ("name", "nodes", "rank", "victim"),
    [
        matrix("fixed", 2, 1, RANK),
        matrix("fixed-first", 2, 0, RANK),
        matrix("elastic", "2:2", 1, RANK),
        matrix("launcher", 2, 1, LAUNCHER),
        matrix("first-launcher", 2, 0, LAUNCHER),
        matrix("one", 1, 0, RANK),
    ],
)
def test_a_process_that_is_killed_costs_the_steps_since_its_checkpoint(
    cluster: Cluster, tmp_path: Path, name: str, nodes: Any, rank: int, victim: str
) -> None:
    cluster.need("PyTorchJob")
    user = User(cluster, tmp_path)
    make_model(tmp_path / "model")
    write_data(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(KILLER.format(name=name, rank=rank, victim=victim))
    cluster.fill_claim("data", tmp_path)
    train = TRAIN | {"logging_steps": 1, "max_steps": STEPS, "save_strategy": "steps", "save_steps": 20}
    handle = user.submit(user.write_job(name, train=train, nnodes=nodes, env={"PYTHONPATH": "."}))
    ended = user.until(handle, "COMPLETED", "FAILED", timeout=400)
    log = user.call("logs", handle).stdout
    assert ended["state"] == "COMPLETED", log
    lines = cluster.read_claim("data", f"out/{name}/metrics.jsonl").decode().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records if "loss" in record] == list(range(1, STEPS + 1))
    assert [record["event"] for record in records if "event" in record] == ["started", "resumed"]
    if victim == RANK:
        assert "restarting the processes in place" in log
