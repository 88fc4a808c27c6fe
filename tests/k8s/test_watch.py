"""What `status`, `logs`, `wait` and `cancel` tell of a job that does not simply run: the true state, and why."""

from __future__ import annotations

import time

import pytest

from tests.support.matrix import matrix

from .cli import User
from .cluster import Cluster


@pytest.fixture
def user(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> User:
    cluster.need("PyTorchJob")
    return User(cluster, tmp_path_factory.mktemp("user"))


def test_an_image_that_cannot_be_pulled(user: User) -> None:
    run = user.submit(user.write_script("image", "true", {"image": user.cluster.unpullable_image}, nnodes=1))
    told = user.until(run, "PENDING", reason="Pull")
    assert "image-master-0: " in told["reason"]
    assert "verdict   image: the container image cannot be pulled" in user.call("diagnose", run).stdout
    user.call("cancel", run)
    user.until(run, "CANCELLED")


def test_no_room(user: User) -> None:
    run = user.submit(user.write_script("large", "true", {"cpu": 4000}))
    told = user.until(run, "PENDING", reason="Insufficient cpu")
    assert "large-master-0: " in told["reason"]


def test_a_quota_that_lets_no_pod_appear(user: User) -> None:
    user.cluster.limit(pods="0")
    run = user.submit(user.write_script("none", "true", nnodes=1))
    assert "exceeded quota" in user.until(run, "PENDING", reason="FailedCreatePod")["reason"]


def test_a_worker_waits_while_the_master_is_done(user: User) -> None:
    """To the operator the job has succeeded."""
    script = 'case "$HOSTNAME" in *master*) sleep 20 ;; *) sleep 300 ;; esac'  # long enough to be seen PENDING
    worker = {"spec": {"pytorchReplicaSpecs": {"Worker": {"template": {"spec": {"nodeSelector": {"absent": "node"}}}}}}}
    run = user.submit(user.write_script("half", script, {"patch": worker}))
    user.until(run, "PENDING", reason="half-worker-0: ")
    assert user.call("wait", run).returncode == 0
    assert "half-worker-0 never ran" in user.status(run)["reason"]


@pytest.mark.parametrize("code", [7, matrix(2)])
def test_the_exit_code_is_that_of_the_first_pod_that_failed(user: User, code: int) -> None:
    script = f'case "$HOSTNAME" in *worker*) sleep 2; echo gone; exit {code} ;; *) sleep 8; exit 1 ;; esac'
    run = user.submit(user.write_script("fails", script, {"restart_policy": "Never"}))
    done = user.call("wait", run, code=code)
    assert f"FAILED exit code {code}" in done.stderr
    assert f"fails-worker-0: exit code {code}" in user.status(run)["reason"]
    assert "fails-worker-0: gone\n" in user.call("logs", run).stdout
    assert "unknown: the run is FAILED: fails-worker-0: exit code" in user.call("diagnose", run).stdout


def test_a_pod_that_takes_more_memory_than_it_may(user: User) -> None:
    """Its worker; the master ends since the worker did."""
    takes = "x = b'x' * (300 << 20); import time; time.sleep(300)"
    script = f'case "$HOSTNAME" in *worker*) exec python3 -c "{takes}" ;; *) sleep 10; exit 1 ;; esac'
    run = user.submit(user.write_script("takes", script, {"restart_policy": "Never", "memory": "128Mi"}))
    assert "OUT_OF_MEMORY exit code 137" in user.call("wait", run, code=137).stderr
    assert user.status(run)["reason"].startswith("takes-worker-0: exit code 137, OOMKilled")


def test_a_queue_that_does_not_admit_the_job(user: User) -> None:
    user.cluster.need("Workload")
    run = user.submit(user.write_script("queued", "exit 4", {"queue": "research"}, nnodes=1))
    told = user.until(run, "PENDING", reason="not admitted by Kueue: LocalQueue research")
    assert told["reason"] == "not admitted by Kueue: LocalQueue research doesn't exist"
    user.cluster.admit("research")
    assert "FAILED exit code 4" in user.call("wait", run, code=4).stderr


def test_a_time_limit(user: User) -> None:
    script = user.write_script("slow", "sleep infinity", {"restart_policy": "Never"}, nnodes=1, time="00:00:05")
    run = user.submit(script)
    user.call("wait", run, code=137)  # the shell did not hear TERM
    assert user.status(run)["state"] == "TIMEOUT"


def test_a_time_limit_of_pods_that_the_operator_would_replace(user: User) -> None:
    """The default. The operator deletes the pods then, and their exit codes go with them."""
    run = user.submit(user.write_script("slow", "sleep infinity", nnodes=1, time="00:00:05"))
    user.call("wait", run, code=None)
    assert user.status(run)["state"] == "TIMEOUT"


def test_a_pod_that_restarts_in_place_keeps_its_earlier_lines(user: User) -> None:
    script = "if [ -e /data/again ]; then echo second; sleep 3; else touch /data/again; echo first; exit 1; fi"
    run = user.submit(user.write_script("again", script, {"restart_policy": "OnFailure"}, nnodes=1))
    followed = user.call("logs", run, "--follow").stdout
    assert followed == "again-master-0: first\nagain-master-0: second\n"
    assert user.status(run)["state"] == "COMPLETED"


def test_an_api_server_that_is_away_for_a_while_is_said_and_waited_for(user: User) -> None:
    run = user.submit(user.write_script("stays", "sleep 25; exit 3", nnodes=1))
    user.until(run, "RUNNING")
    waiting = user.start("wait", run)
    assert waiting.stderr is not None
    assert "RUNNING" in waiting.stderr.readline()
    with user.cluster.faults.api_server_down():  # until it notices: it may be in one of its pauses
        noticed = waiting.stderr.readline()
    assert "does not answer" in noticed
    assert "asking again in" in noticed
    said = waiting.communicate(timeout=120)[1]
    assert waiting.returncode == 3, said


def test_a_wait_whose_watches_are_cut_asks_no_more_often(user: User) -> None:
    """As by a proxy that knows no watches."""
    run = user.submit(user.write_script("cut", "sleep 300", nnodes=1))
    user.until(run, "RUNNING")
    waiting = user.start("wait", run)
    with user.cluster.asked() as asked:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            user.cluster.faults.drop_watches()
            time.sleep(0.02)
    waiting.kill()
    waiting.communicate()
    assert 1 <= asked.count("watch pytorchjobs") <= 5  # pauses of 1.0, 1.5, 2.3, 3.4 s and so on


def test_a_log_goes_on_after_a_lost_connection(user: User) -> None:
    run = user.submit(user.write_script("long", "for i in $(seq 20); do echo line $i; sleep 1; done", nnodes=1))
    following = user.start("logs", run, "--follow")
    user.until(run, "RUNNING")
    time.sleep(2)
    user.cluster.faults.drop_watches()
    lines = following.communicate(timeout=120)[0].splitlines()
    assert lines == [f"long-master-0: line {i}" for i in range(1, 21)]


def test_a_run_that_the_record_does_not_know(user: User) -> None:
    run = user.submit(user.write_script("lost", "sleep 300", nnodes=1))
    for path in user.folder.glob("home/**/runs.sqlite"):
        path.unlink()
    assert user.until(run, "RUNNING")["name"] == "lost"
    assert "not a Kubernetes handle" in user.call("status", "k8s://somewhere", code=2).stderr
    assert "has no such context" in user.call("status", "k8s://nowhere/default/lost", code=2).stderr
    user.call("cancel", run)
    user.cluster.wait(lambda: not user.cluster.pods())


def test_many_runs_in_one_list(user: User) -> None:
    """Three of them, of which one was deleted by hand."""
    runs = [user.submit(user.write_script(f"run{i}", f"exit {i}", nnodes=1)) for i in range(3)]
    user.until(runs[0], "COMPLETED")
    user.until(runs[1], "FAILED")
    user.until(runs[2], "FAILED")
    user.cluster.kubectl("delete", "pytorchjob", "run2")
    listed = user.call("list").stdout
    assert "COMPLETED" in listed
    assert listed.count("FAILED") == 2  # what ended keeps its last state
    with user.cluster.faults.api_server_down():
        assert user.call("list").stdout == listed, "runs that have ended are not asked for"


def test_of_a_log_without_end_its_begin_and_its_end_are_diagnosed(user: User) -> None:
    script = "yes $(head -c 4000 /dev/zero | tr '\\0' x) | head -n 6000; echo MemoryError; exit 1"
    run = user.submit(user.write_script("long", script, {"restart_policy": "Never"}, nnodes=1))
    user.call("wait", run, code=1)
    said = user.call("diagnose", run).stdout
    assert "said      log:6001: MemoryError" in said
    assert "lines between the first 1 MiB and the last 16 MiB were left out" in said
