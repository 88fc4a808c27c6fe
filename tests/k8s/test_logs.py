"""Logs over HTTP: what is kept of pods that go, and how often what has ended is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cli import User
from .cluster import Cluster
from .injection import Injection

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


def test_runs_known_by_their_handles_alone_keep_a_log_each(user: User) -> None:
    """And it outlives a second cancel, when there are no pods any more."""
    one, other = (start(user, name) for name in ("one", "other"))
    for path in user.folder.glob("home/**/runs.sqlite"):
        path.unlink()
    user.call("cancel", one, "--keep")
    user.call("cancel", other, "--keep")
    user.cluster.wait(lambda: not user.cluster.pods())
    assert "no more than one-pods.log" in user.call("cancel", one, "--keep").stderr
    for name in ("one", "other"):
        assert (user.folder / f"{name}-pods.log").read_text().startswith(f"{name}-master-0: 0\n")


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
