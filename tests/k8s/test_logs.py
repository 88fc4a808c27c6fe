"""Logs over HTTP: what is kept of pods that go, and how often what has ended is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cli import User
from .cluster import Cluster
from .standin.injection import Injection

#: A line each second.
COUNTS = "i=0; while true; do echo $i; i=$((i + 1)); sleep 1; done"


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> User:
    cluster.need("PyTorchJob")
    return User(cluster, tmp_path)


def start(user: User, name: str) -> str:
    """A job of one pod that has begun to count."""
    run = user.submit(user.write_script(name, COUNTS, nnodes=1))
    first = f"{name}-master-0: 0\n"
    user.cluster.wait(lambda: user.call("logs", run, code=None).stdout.startswith(first))
    return run


def test_a_cancel_that_fails_hides_no_live_log(user: User) -> None:
    """First nothing can be read, then the job cannot be deleted."""
    run = start(user, "lives")
    user.cluster.faults.inject(Injection(0, "GET", "/log"))
    user.call("cancel", run, "--keep", code=3)
    user.cluster.faults.heal()
    assert user.call("logs", run).stdout
    user.cluster.faults.inject(Injection(503, "DELETE", "/pytorchjobs/"))
    user.call("cancel", run, "--keep", code=3)
    user.cluster.faults.heal()
    kept = next(user.folder.glob("runs/lives-*/pods.log")).read_text()
    more = user.cluster.wait(lambda: user.call("logs", run).stdout.removeprefix(kept))
    assert more.startswith("lives-master-0: "), "what the pod says now"
    user.cluster.kubectl("delete", "pytorchjob", "lives")
    user.cluster.wait(lambda: not user.cluster.pods())
    assert user.call("logs", run).stdout == kept, "all that there is now"


@pytest.mark.matrix
def test_runs_known_by_their_handles_alone_keep_a_log_each(user: User) -> None:
    """So does a later job of the same name; a second cancel has nothing to keep."""
    for name in ("one", "other", "one"):
        run = start(user, name)
        for path in user.folder.glob("home/**/runs.sqlite"):
            path.unlink()
        user.call("cancel", run, "--keep")
        user.cluster.wait(lambda: not user.cluster.pods())
    assert "the job is not there any more" in user.call("cancel", run, "--keep").stderr
    kept = sorted(user.folder.glob("*-pods.log"))
    assert [path.name.partition("-")[0] for path in kept] == ["one", "one", "other"]
    for path in kept:
        assert path.read_text().startswith(f"{path.name.partition('-')[0]}-master-0: 0\n")


def test_a_pod_whose_log_cannot_be_had(user: User) -> None:
    """Its node does not answer: the others' lines are shown and kept, and nothing is deleted that only it has."""
    run = user.submit(user.write_script("deaf", COUNTS))
    lines = ("deaf-master-0: 0\n", "deaf-worker-0: 0\n")
    user.cluster.wait(lambda: all(line in user.call("logs", run, code=None).stdout for line in lines))
    user.cluster.faults.inject(
        Injection(500, "GET", "deaf-master-0/log", message="Get containerLogs: no route to host")
    )
    shown = user.call("logs", run)
    assert shown.stdout.startswith(lines[1])
    assert "deaf-master-0: its log cannot be read: Get containerLogs: no route to host" in shown.stderr
    refused = user.call("cancel", run, "--keep", code=3)
    assert "deaf-master-0: its log cannot be read" in refused.stderr
    assert next(user.folder.glob("runs/deaf-*/pods.log")).read_text().startswith(lines[1])
    assert user.cluster.pods()
    user.cluster.faults.heal()
    user.call("cancel", run, "--keep")
    assert next(user.folder.glob("runs/deaf-*/pods.log")).read_text().startswith(lines[0])


def test_what_has_ended_is_not_read_again_and_again(user: User) -> None:
    """The worker ends long before the master does."""
    script = 'echo begins; case "$HOSTNAME" in *master*) sleep 25 ;; esac; echo ends'
    run = user.submit(user.write_script("long", script))
    pods = user.cluster.pods
    user.cluster.wait(lambda: pods().get("long-worker-0", {}).get("status", {}).get("phase") == "Succeeded")
    with user.cluster.asked() as asked:
        followed = user.call("logs", run, "--follow").stdout.splitlines()
    assert sorted(followed) == [f"long-{pod}-0: {word}" for pod in ("master", "worker") for word in ("begins", "ends")]
    assert asked.count("get pods") > 10, "the follower had time to read it often"
    # Either at first, the master as it goes on, and its end.
    assert asked.count("get pods/log") <= 5
