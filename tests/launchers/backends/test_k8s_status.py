"""States that `launchers.k8s.status` reads from what the API shows, of cases that a test cluster seldom shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alignlaunch.launchers.backends.k8s import refusals, status
from alignlaunch.launchers.backends.k8s.client import Refused

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def job(*conditions: str, age: float = 10, kind: str = "PyTorchJob", **reasons: str) -> dict[str, Any]:
    """A job of two pods with these conditions."""
    listed = [{"type": c, "status": "True", "reason": reasons.get(c, ""), "message": ""} for c in conditions]
    made = (NOW - timedelta(seconds=age)).isoformat().replace("+00:00", "Z")
    replicas = {"Master": {"replicas": 1}, "Worker": {"replicas": 1}}
    spec: dict[str, Any] = {"pytorchReplicaSpecs": replicas} if kind == "PyTorchJob" else {"trainer": {"numNodes": 2}}
    return {"metadata": {"name": "a", "creationTimestamp": made}, "spec": spec, "status": {"conditions": listed}}


def pod(role: str, phase: str = "Running", **state: Any) -> dict[str, Any]:
    labels = {"training.kubeflow.org/replica-type": role, "training.kubeflow.org/replica-index": "0"}
    spec = {"nodeName": f"node-{role}", "containers": [{"name": "pytorch", "env": [{"name": "PET_NODE_RANK"}]}]}
    container = {"name": "pytorch", "restartCount": state.pop("restarts", 0), "state": state}
    shown = {"phase": phase, "containerStatuses": [container]}
    return {"metadata": {"name": f"a-{role}-0", "labels": labels}, "spec": spec, "status": shown}


def of(job_: dict[str, Any], *pods: dict[str, Any], events: Any = (), workload: Any = None) -> tuple[str, Any, str]:
    def warnings(name: str) -> list[dict[str, Any]]:
        return [event for event in events if event["involvedObject"]["name"] == name]

    found = status.of(job_, list(pods), warnings, lambda _: workload, NOW)
    return found.state, found.exit_code, found.reason


def ended(code: int, reason: str, at: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": f"2026-11-21T11:{at}Z"}}


def test_the_oom_killer() -> None:
    killed = pod("worker", "Failed", **ended(137, "OOMKilled", "59:01"))
    followed = pod("master", "Failed", **ended(1, "Error", "59:07"))
    found = of(job("Created", "Running", "Failed"), followed, killed)
    assert found == ("OUT_OF_MEMORY", 137, "a-worker-0: exit code 137, OOMKilled; a-master-0: exit code 1")


def test_a_restart_is_told_while_the_job_runs() -> None:
    again = pod("worker", restarts=2)
    again["status"]["containerStatuses"][0]["lastState"] = ended(137, "OOMKilled", "59:01")
    told = "a-worker-0 restarted 2 times, last: exit code 137, OOMKilled"
    assert of(job("Created", "Running"), pod("master"), again) == ("RUNNING", None, told)


def test_many_pods_that_failed_are_told_in_a_few_words() -> None:
    pods = [pod(f"worker{i}", "Failed", **ended(i, "Error", f"59:0{i}")) for i in range(1, 6)]
    told = "a-worker1-0: exit code 1; a-worker2-0: exit code 2; a-worker3-0: exit code 3; and 2 more"
    failed = job("Failed")
    failed["spec"] = {"pytorchReplicaSpecs": {f"Worker{i}": {"replicas": 1} for i in range(1, 6)}}
    assert of(failed, *reversed(pods)) == ("FAILED", 1, told)


def test_who_ended_a_pod_before_its_time() -> None:
    """Kubernetes says it in a condition of the pod; one that was deleted says nothing any more."""
    evicted = pod("worker", "Failed", **ended(143, "Error", "59:01"))
    evicted["status"]["conditions"] = [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    ]
    followed = pod("master", "Failed", **ended(1, "Error", "59:03"))
    told = "a-worker-0: exit code 143, PreemptionByScheduler; a-master-0: exit code 1"
    assert of(job("Failed"), evicted, followed) == ("FAILED", 143, told)
    gone = "a-master-0: exit code 1; a-worker-0 is gone: deleted, evicted, or its node was lost"
    assert of(job("Failed"), followed) == ("FAILED", 1, gone)


def test_pods_that_have_failed_while_the_operator_is_down() -> None:
    """They are not about to start, and the job is not about to begin."""
    killed, crashed = pod("worker", "Failed", **ended(137, "OOMKilled", "59:01")), pod("master", "Failed")
    crashed["status"] |= {"reason": "Evicted", "containerStatuses": []}
    late = "and the training operator has not acted on it yet"
    both = f"a-master-0: failed (Evicted), {late}; a-worker-0: failed (exit code 137, OOMKilled), {late}"
    assert of(job("Created", "Running"), killed, crashed) == ("RUNNING", None, both)
    waits = pod("master", "Pending")
    told = f"a-master-0: about to start; a-worker-0: failed (exit code 137, OOMKilled), {late}"
    assert of(job("Created"), killed, waits) == ("PENDING", None, told)


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ([], "not admitted by Kueue: no answer yet"),
        ([{"type": "QuotaReserved", "status": "False", "message": "insufficient unused quota for nvidia.com/gpu"}],
         "not admitted by Kueue: insufficient unused quota for nvidia.com/gpu"),
        ([{"type": "Admitted", "status": "True"}], "admitted, about to start"),
    ],
)  # fmt: skip
def test_a_job_in_a_queue(conditions: list[dict[str, str]], says: str) -> None:
    assert of(queued(), workload={"status": {"conditions": conditions}}) == ("PENDING", None, says)


def queued() -> dict[str, Any]:
    waiting = job("Suspended")
    waiting["metadata"] |= {"uid": "1", "labels": {"kueue.x-k8s.io/queue-name": "research"}}
    return waiting


def test_a_queue_whose_reasons_one_may_not_see() -> None:
    assert of(queued()) == ("PENDING", None, "not admitted by Kueue: waits in queue research")


def test_a_job_that_was_suspended_by_hand() -> None:
    assert of(job("Suspended")) == ("PENDING", None, "suspended")


def test_nobody_makes_pods() -> None:
    assert of(job(age=5)) == ("PENDING", None, "no pods yet")
    assert of(job(age=90)) == ("PENDING", None, "no pods after 90 s: is the training operator running?")


def test_what_keeps_pods_from_appearing() -> None:
    event = {"type": "Warning", "reason": "FailedCreatePod", "message": "pods is forbidden:\n exceeded quota"}
    events = [event | {"involvedObject": {"name": "a"}}]
    assert of(job("Created", age=300), events=events)[2] == "FailedCreatePod: pods is forbidden: exceeded quota"


def test_a_trainjob_ends() -> None:
    assert of(job("Complete", kind="TrainJob"))[:2] == ("COMPLETED", 0)
    assert of(job("Failed", kind="TrainJob", Failed="DeadlineExceeded"))[0] == "TIMEOUT"


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("spec.pytorchReplicaSpecs.Worker.replicas", "nnodes"),
        ("spec.template.spec.containers[0].image", "k8s.image"),
        ("spec.template.spec.containers[0].resources.limits[nvidia.com/gpu]", "nproc_per_node"),
        ("spec.runPolicy.activeDeadlineSeconds", "time"),
        ("metadata.name", "name"),
        ("spec.runPolicy.nonsense", "k8s.patch"),
    ],
)
def test_the_key_that_decides_a_place(place: str, key: str) -> None:
    assert key in refusals.key_of(place)
    said = str(refusals.submission_error(Refused(422, "Invalid", "is invalid", [{"field": place}]), "PyTorchJob", "ns"))
    assert key in said
