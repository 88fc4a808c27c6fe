"""Names come again: whose a job of the name is, when it is free, and what is told of a run whose job is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cli import User
from .cluster import Cluster


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> User:
    cluster.need("PyTorchJob")
    return User(cluster, tmp_path)


def test_a_job_can_be_submitted_as_soon_as_it_was_cancelled(user: User) -> None:
    job = user.write_script("again", "sleep 300", nnodes=1)
    first = user.submit(job)
    user.until(first, "RUNNING")
    user.call("cancel", first)
    second = user.submit(job)
    assert second == first, "the name was free"
    user.until(second, "RUNNING")
    user.call("cancel", second)


def test_a_name_that_another_run_has_by_now_is_not_ours(user: User, tmp_path: Path) -> None:
    """A colleague's, submitted after ours was deleted; then one that somebody applied by hand."""
    cluster = user.cluster
    ours = user.submit(user.write_script("same", "sleep 300", nnodes=1))
    cluster.kubectl("delete", "pytorchjob", "same")
    (tmp_path / "other").mkdir()
    other = User(cluster, tmp_path / "other")
    theirs = other.submit(other.write_script("same", "sleep 300", nnodes=1))
    assert theirs == ours
    other.until(theirs, "RUNNING")
    assert user.status(ours)["state"] == "UNKNOWN"
    said = user.call("logs", ours, code=1).stderr
    assert "its pods are gone" in said
    assert "see /data/out/same/logs, where that is mounted" in said
    user.call("cancel", ours)
    assert other.status(theirs)["state"] == "RUNNING"

    other.call("cancel", theirs)
    cluster.kubectl("apply", "-f", str(user.folder / "launch/same/k8s"))
    cluster.wait_condition("same", "Running")
    user.call("cancel", ours)
    assert "Running" in cluster.conditions("same")
    cluster.kubectl("delete", "pytorchjob", "same")


def test_a_run_that_its_ttl_deleted_is_told_by_its_results(user: User) -> None:
    """Where this machine sees the output folder. Another run's results in it tell nothing."""
    out = user.folder / "data/out/short"
    place = {"working_dir": str(user.folder / "data"), "ttl_seconds": 1}
    volume = {"data": {"pvc": "data", "empty_dir": None, "mount_path": str(user.folder / "data")}}
    mark = f'mkdir -p {out} && echo "{{\\"run_id\\": \\"$ALIGNLAUNCH_RUN_ID\\"}}" > {out}/provenance.json'
    (user.folder / "data").mkdir()
    user.cluster.fill_claim("data", user.folder / "data")
    run = user.submit(user.write_script("short", mark, place | {"volumes": volume}, nnodes=1))
    user.cluster.wait(lambda: "pytorchjob" not in user.cluster.kubectl("get", "pytorchjobs", "-o", "name").stdout)
    assert user.status(run)["state"] == "UNKNOWN"
    out.mkdir(parents=True)
    (out / "provenance.json").write_text('{"run_id": "20260101-000000-abcd"}')
    assert user.status(run)["state"] == "UNKNOWN"
    (out / "provenance.json").write_bytes(user.cluster.read_claim("data", "out/short/provenance.json"))
    told = user.status(run)
    assert (told["state"], told["exit_code"]) == ("COMPLETED", 0)
    assert told["reason"] == f"as its results in {out} say; the job is deleted"
