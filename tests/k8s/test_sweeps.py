"""A sweep on Kubernetes is a job a point; outside a queue the later ones wait, suspended, for their turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import top
from tests.support.looking import look
from tests.support.waiting import until

from .cli import User
from .cluster import Cluster

ACTS = ["sleep 3", "sleep 4; exit 7", "sleep 2", "sleep 1", "true", "sleep 0"]


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> User:
    cluster.need("PyTorchJob")
    return User(cluster, tmp_path)


def write_sweep(user: User, name: str, acts: list[str] = ACTS, **k8s: object) -> str:
    """Six points of a shell script that does what the job's environment says, which is what the sweep is over."""
    points = [{"env.ACT": act} for act in acts]
    return user.write_script(
        name, 'echo "$ACT"; sh -c "$ACT"', k8s, nnodes=1, sweep={"points": points, "max_parallel": 2}
    )


def states(user: User, run: str) -> list[tuple[str, int | None]]:
    runs = json.loads(user.call("status", run, "--json").stdout)
    return [(one["state"], one["exit_code"]) for one in runs]


def test_six_points_two_at_once_of_which_one_fails(user: User) -> None:
    job = write_sweep(user, "six")
    done = user.call("k8s", job, "--cluster", "lab", "--no-data-check")
    assert len(done.stdout.split()) == 6
    assert "4 of 6 points are suspended: `alignlaunch wait six` lets one go as another ends" in done.stderr
    until(lambda: len(user.cluster.pods()) >= 2)
    assert len(user.cluster.pods()) == 2
    waiting = user.start("wait", "six")
    user.cluster.delete("Pod", next(iter(user.cluster.pods())))  # as a preemption does
    ended = waiting.communicate(timeout=240)[1]
    assert (waiting.returncode, ended.count("its turn")) == (7, 4), ended
    assert states(user, "six") == [("COMPLETED", 0), ("FAILED", 7), *[("COMPLETED", 0)] * 4]
    look(user, user.folder, "six", outputs=False)


def test_the_whole_is_cancelled(user: User) -> None:
    job = write_sweep(user, "ended", [f"sleep {300 + i}" for i in range(6)])
    handles = user.call("k8s", job, "--cluster", "lab", "--no-data-check").stdout.split()
    names = [one["name"] for one in json.loads(user.call("status", "ended", "--json").stdout)]
    with top.top(user, "ended+*") as shown:
        shown.until(lambda screen: sorted(top.rows(screen)) == sorted(names))
        top.cancel(shown, names[5], handles[5])
        assert [*top.states(shown.screen()).values()].count("CANCELLED") == 1
    user.call("cancel", "ended")
    assert {state for state, _ in states(user, "ended")} == {"CANCELLED"}
    assert user.cluster.wait(lambda: not user.cluster.pods()) is True


def test_a_queue_decides_by_itself(user: User) -> None:
    """Kueue suspends what it has not admitted, and alignlaunch leaves that to it."""
    job = write_sweep(user, "queued", queue="research")
    done = user.call("k8s", job, "--cluster", "lab", "--no-data-check")
    assert "suspended" not in done.stderr
    user.cluster.admit("research")
    user.call("wait", "queued", code=7)


def test_points_that_are_trainjobs(user: User) -> None:
    """Their spec says it in another place."""
    user.cluster.need("TrainJob")
    job = user.write_job("trains", nnodes=1, k8s={"kind": "TrainJob"}, sweep={"over": {"train.seed": [1, 2]}})
    options = ("--set", "sweep.max_parallel=1", "--as", "trained")
    handles = user.call("k8s", job, "--cluster", "lab", "--no-data-check", *options).stdout.split()
    user.until(handles[1], "PENDING", reason="suspended")
    waiting = user.start("wait", "trained")
    user.call("cancel", handles[0])
    user.until(handles[1], "PENDING", reason="nodes are available")
    user.call("cancel", handles[1])
    assert waiting.wait(60) == 1


def test_a_sweep_behind_another_step_of_its_pipeline_gets_its_turns(user: User) -> None:
    """The step before it in the file is no point, and counts for none."""
    volumes = {"data": {"empty_dir": True, "pvc": None, "mount_path": "/data"}}
    container = {"name": "pytorch", "command": ["sh", "-c", "exit 0"]}
    k8s = {"pod_patch": {"spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}, "volumes": volumes}
    step = {
        "stage": "sft",
        "model": "model",
        "data": {"train": ["sft.jsonl"]},
        "nproc_per_node": 1,
        "zero": 0,
        "k8s": k8s,
    }
    swept = {**step, "sweep": {"over": {"train.seed": [1, 2]}, "max_parallel": 1}}
    (user.folder / "both.yaml").write_text(json.dumps({"name": "both", "jobs": {"alone": step, "swept": swept}}))
    done = user.call("k8s", "both.yaml", "--cluster", "lab", "--no-data-check")
    assert "1 of 3 points are suspended" in done.stderr
    assert user.call("wait", "both").stderr.count("its turn") == 1
