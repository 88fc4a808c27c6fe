"""How many requests the API server gets. bench/k8s_list.py has the seconds."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from alignlaunch.launchers.backends.k8s.submission import RUN_LABEL
from alignlaunch.launchers.runs import records

from . import crowd
from .cli import User
from .cluster import Cluster

JOBS = 2000


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    cluster.need("PyTorchJob")
    user = User(cluster, tmp_path)
    monkeypatch.setenv("HOME", user.env["HOME"])  # the record that this process writes is the user's
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return user


def record(user: User, cluster: Cluster, count: int) -> None:
    records.save(crowd.runs(f"k8s://{cluster.context}/{cluster.namespace}", count))


def test_two_thousand_jobs(user: User) -> None:
    """Two pods each: 4,000 pods are two pages."""
    cluster = user.cluster
    with cluster.asked() as asked:  # skips where nothing can be counted
        user.call("list")  # of no runs
    assert asked == []
    cluster.create_all(crowd.objects(cluster.namespace, JOBS))
    record(user, cluster, JOBS)
    with cluster.asked() as asked:
        listed = json.loads(user.call("list", "-n", str(JOBS), "--json").stdout)
    assert Counter(asked) == {"list pytorchjobs": 1, "list pods": 2, "list events": 1}
    assert len(listed) == JOBS
    assert {run["state"] for run in listed} == {"PENDING"}
    assert all(f"{run['name']}-master-0: FailedScheduling: {crowd.WHY}" in run["reason"] for run in listed)

    with cluster.asked() as asked:
        user.call("list")
    assert Counter(asked) == {"list pytorchjobs": 1, "list pods": 1, "list events": 1}
    with cluster.asked() as asked:
        assert user.status("crowd-0007")["state"] == "PENDING"
    assert Counter(asked) == {"get pytorchjobs": 1, "list pods": 1, "list events": 1}


def test_one_list_of_events_for_each_namespace(user: User, neighbour: Cluster) -> None:
    """However many of its jobs wait."""
    clusters = user.cluster, neighbour
    with user.cluster.asked() as here, neighbour.asked() as there:
        for cluster in clusters:
            cluster.create_all(crowd.objects(cluster.namespace, 3))
            record(user, cluster, 3)
        assert user.call("list").stdout.count("Insufficient nvidia.com/gpu") == 6
    for asked in (here, there):
        assert Counter(asked) == {"list pytorchjobs": 1, "list pods": 1, "list events": 1}


def test_jobs_that_were_applied_by_hand(user: User) -> None:
    """They have no label of a run, and are known by their handles alone; a submitted one is beside them."""
    cluster = user.cluster
    objects = list(crowd.objects(cluster.namespace, 3))
    for job in objects[::4][:2]:
        del job["metadata"]["labels"][RUN_LABEL]
    cluster.create_all(objects)
    known = crowd.runs(f"k8s://{cluster.context}/{cluster.namespace}", 3)
    records.save([replace(run, run_dir="") for run in known[:2]] + known[2:])
    with cluster.asked() as asked:
        listed = json.loads(user.call("list", "--json").stdout)
    assert [run["state"] for run in listed] == ["PENDING"] * 3
    assert Counter(asked) == {"list pytorchjobs": 1, "list pods": 1, "list events": 1}


def test_a_cluster_that_is_gone_keeps_no_other_from_an_answer(user: User) -> None:
    cluster = user.cluster
    cluster.create_all(crowd.objects(cluster.namespace, 1))
    record(user, cluster, 1)
    records.save(crowd.runs("k8s://gone/lab", 1))  # the latest run: asked for first
    listed = user.call("list", code=2)
    assert listed.stdout.count("Insufficient nvidia.com/gpu") == 1
    assert listed.stderr.count("error: context gone: the kubeconfig has no such context") == 1


def test_events_are_not_asked_for_while_all_is_well(user: User) -> None:
    run = user.submit(user.write_script("well", "sleep 300", {"queue": "default"}, nnodes=1))
    user.cluster.admit("default")
    user.until(run, "RUNNING")
    with user.cluster.asked() as asked:
        user.status(run)
    assert Counter(asked) == {"get pytorchjobs": 1, "list pods": 1}
