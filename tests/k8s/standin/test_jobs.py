"""The operator: what a PyTorchJob is said to be as its pods start, fail, restart, wait and end."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container, pytorchjob, replica

from .objects.resources import PYTORCHJOBS, Obj

pytestmark = [pytest.mark.matrix, pytest.mark.usefixtures("operator")]  # the stand-in itself: it changes seldom


def test_the_master_decides_even_if_a_worker_never_ran(cluster: Cluster) -> None:
    master = replica(1, container(cluster.image, "true"))
    worker = replica(1, container(cluster.unpullable_image, "true"))
    cluster.apply(pytorchjob("job", master=master, worker=worker))
    assert cluster.wait_condition("job", "Succeeded", "Failed") == "Succeeded"
    assert cluster.conditions("job") == {"Created": "True", "Running": "False", "Succeeded": "True"}
    assert cluster.pods()["job-worker-0"]["status"]["phase"] == "Pending"


def test_an_image_that_cannot_be_pulled_is_no_failure(cluster: Cluster) -> None:
    cluster.apply(pytorchjob("job", master=replica(1, container(cluster.unpullable_image, "true"))))

    def waiting() -> Obj:
        statuses = cluster.pods().get("job-master-0", {}).get("status", {}).get("containerStatuses") or [{}]
        state: Obj = statuses[0].get("state", {}).get("waiting") or {}
        return state

    cluster.wait(lambda: waiting().get("reason") == "ImagePullBackOff")
    assert "Back-off pulling image" in waiting()["message"]
    assert cluster.wait_event("job-master-0", "Failed").startswith(("Failed to pull image", "Error: "))
    assert cluster.conditions("job") == {"Created": "True"}


def test_a_restart_policy_that_does_not_exist_makes_no_pods(cluster: Cluster) -> None:
    master = replica(1, container(cluster.image, "true"), restart_policy="Sometimes")
    cluster.apply(pytorchjob("job", master=master))
    message = cluster.wait_event("job", "FailedCreatePod")
    assert message.startswith('Error creating: Pod "job-master-0" is invalid: spec.restartPolicy: Unsupported value')
    assert not cluster.pods()
    assert "Running" not in cluster.conditions("job")


def test_a_pod_that_does_not_fit_stays_pending(cluster: Cluster) -> None:
    cluster.need("gpu")
    much = {"limits": {"nvidia.com/gpu": "1024"}}
    cluster.apply(pytorchjob("job", master=replica(1, container(cluster.image, "true", resources=much))))
    message = cluster.wait_event("job-master-0", "FailedScheduling")
    assert "nodes are available" in message
    assert "Insufficient nvidia.com/gpu" in message
    pod = cluster.pods()["job-master-0"]["status"]
    assert pod["phase"] == "Pending"
    assert [(c["type"], c["status"], c["reason"]) for c in pod["conditions"]] == [
        ("PodScheduled", "False", "Unschedulable")
    ]
    assert cluster.log("job-master-0") == ""


def test_on_failure_restarts_in_place_until_the_backoff_limit(cluster: Cluster) -> None:
    master = replica(1, container(cluster.image, "echo attempt; exit 3"))
    cluster.apply(pytorchjob("job", master=master, runPolicy={"backoffLimit": 2}))
    status: dict[str, Any] = {}
    while not {"Succeeded", "Failed"} & cluster.conditions("job").keys():
        if pod := cluster.pods().get("job-master-0"):  # it goes when the job has failed
            status = (pod["status"].get("containerStatuses") or [status])[0]
        time.sleep(0.05)
    failed = next(c for c in cluster.job("job")["status"]["conditions"] if c["type"] == "Failed")
    assert failed["reason"] == "PyTorchJobFailed"
    assert failed["message"] == "Job job has failed because it has reached the specified backoff limit"
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 3


@pytest.mark.parametrize(("code", "ended"), [(3, "Failed"), (130, "Restarting")])
def test_exit_code_restarts_from_128_on(cluster: Cluster, code: int, ended: str) -> None:
    master = replica(1, container(cluster.image, f"sleep 1; exit {code}"), restart_policy="ExitCode")
    cluster.apply(pytorchjob("job", master=master))
    assert cluster.wait_condition("job", "Restarting", "Failed", "Succeeded") == ended
    if ended == "Failed":
        pod = cluster.pods()["job-master-0"]
        assert pod["spec"]["restartPolicy"] == "Never"
        assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code
        assert cluster.wait_event("job", "ExitedWithCode").endswith(f"exited with code {code}")


def test_never_fails_the_job_at_once(cluster: Cluster) -> None:
    master = replica(1, container(cluster.image, "exit 3"), restart_policy="Never")
    cluster.apply(pytorchjob("job", master=master))
    assert cluster.wait_condition("job", "Failed", "Succeeded") == "Failed"
    failed = next(c for c in cluster.job("job")["status"]["conditions"] if c["type"] == "Failed")
    assert failed["message"] == "PyTorchJob job is failed because 1 Master replica(s) failed."


def test_the_jobs_deadline_is_noticed_only_when_something_changes(cluster: Cluster) -> None:
    """Its pods go first, and with them their logs, whatever cleanPodPolicy says."""
    master = replica(1, container(cluster.image, "sleep 600"))
    cluster.apply(pytorchjob("job", master=master, runPolicy={"activeDeadlineSeconds": 3, "cleanPodPolicy": "None"}))
    cluster.wait_condition("job", "Running")
    time.sleep(4)
    assert cluster.conditions("job") == {"Created": "True", "Running": "True"}
    where = ("kubeflow.org", "v1", cluster.namespace, "pytorchjobs", "job")
    cluster.custom.patch_namespaced_custom_object(*where, {"metadata": {"annotations": {"touched": "now"}}})
    assert cluster.wait_condition("job", "Failed", "Succeeded") == "Failed"
    failed = next(c for c in cluster.job("job")["status"]["conditions"] if c["type"] == "Failed")
    assert failed["message"] == "Job job has failed because it was active longer than specified deadline"
    cluster.wait(lambda: not cluster.pods())


def test_a_pods_own_deadline(cluster: Cluster) -> None:
    """As recorded on Kubernetes 1.36: TERM, then 137, and the reason in the pod's status."""
    one = replica(1, container(cluster.image, "sleep 600"), restart_policy="Never")
    one["template"]["spec"] |= {"activeDeadlineSeconds": 3, "terminationGracePeriodSeconds": 1}
    cluster.apply(pytorchjob("job", master=one))
    assert cluster.wait_condition("job", "Failed", "Succeeded") == "Failed"
    status = cluster.pods()["job-master-0"]["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] in (137, 143)


@pytest.mark.parametrize(("policy", "left"), [(None, 2), ("None", 2), ("Running", 1), ("All", 0)])
def test_clean_pod_policy(cluster: Cluster, policy: str | None, left: int) -> None:
    """The default keeps the pods, and so their logs."""
    master, worker = (replica(1, container(cluster.image, script)) for script in ("echo done; sleep 2", "sleep 600"))
    run_policy: Any = {"cleanPodPolicy": policy} if policy else {}
    cluster.apply(pytorchjob("job", master=master, worker=worker, runPolicy=run_policy))
    cluster.wait_condition("job", "Succeeded")
    cluster.wait(lambda: len(cluster.pods()) == left)
    if left:
        assert cluster.log("job-master-0") == "done\n"


def test_time_to_live(cluster: Cluster) -> None:
    master = replica(1, container(cluster.image, "true"))
    cluster.apply(pytorchjob("job", master=master, runPolicy={"ttlSecondsAfterFinished": 1}))
    jobs = ("kubeflow.org", "v1", cluster.namespace, "pytorchjobs")
    cluster.wait(lambda: not cluster.custom.list_namespaced_custom_object(*jobs)["items"])
    cluster.wait(lambda: not cluster.pods())


def test_suspend_and_resume(cluster: Cluster) -> None:
    master = replica(1, container(cluster.image, "true"))
    cluster.apply(pytorchjob("job", master=master, runPolicy={"suspend": True}))
    cluster.wait_condition("job", "Suspended")
    assert not cluster.pods()
    cluster.request("PATCH", PYTORCHJOBS, "job", {"spec": {"runPolicy": {"suspend": False}}})
    cluster.wait_condition("job", "Succeeded")
    assert cluster.conditions("job")["Suspended"] == "False"


def test_a_name_used_again_while_old_pods_terminate(cluster: Cluster) -> None:
    """The new job waits for its names."""
    stubborn = "trap '' TERM; while true; do sleep 0.1; done"
    old = replica(1, container(cluster.image, stubborn), terminationGracePeriodSeconds=4)
    cluster.apply(pytorchjob("job", master=old))
    cluster.wait_condition("job", "Running")
    cluster.delete("pytorchjob", "job")
    cluster.apply(pytorchjob("job", master=replica(1, container(cluster.image, "echo new"))))
    message = cluster.wait_event("job", "FailedCreatePod")
    assert message == 'Error creating: object is being deleted: pods "job-master-0" already exists'
    cluster.wait_condition("job", "Succeeded")
    assert cluster.log("job-master-0") == "new\n"


def test_a_pod_quota_keeps_pods_away(cluster: Cluster) -> None:
    cluster.limit(pods="0")
    cluster.apply(pytorchjob("job", master=replica(1, container(cluster.image, "true"))))
    message = cluster.wait_event("job", "FailedCreatePod")
    assert message.startswith(
        'Error creating: pods "job-master-0" is forbidden: exceeded quota: limit, requested: pods=1'
    )


def test_a_name_too_long_for_a_service(cluster: Cluster) -> None:
    """63 characters pass admission; with `-master-0` they are too many, and the job never gets a status."""
    name = "j" * 60
    cluster.apply(pytorchjob(name, master=replica(1, container(cluster.image, "true"))))
    message = cluster.wait_event(name, "FailedCreateService")
    assert "metadata.name: Invalid value" in message
    assert "must be no more than 63 characters" in message
    assert cluster.conditions(name) == {}


def test_an_elastic_job_succeeds_with_its_first_worker(cluster: Cluster) -> None:
    script = "case $(hostname) in *-0) true;; *) sleep 600;; esac"
    worker = replica(2, container(cluster.image, script))
    cluster.apply(pytorchjob("job", worker=worker, elasticPolicy={"minReplicas": 1, "maxReplicas": 2}))
    assert cluster.wait_condition("job", "Succeeded", "Failed") == "Succeeded"


def test_the_pod_templates_own_restart_policy_is_overwritten(cluster: Cluster) -> None:
    cluster.apply(pytorchjob("job", master=replica(1, container(cluster.image, "true"), restartPolicy="Never")))
    cluster.wait_condition("job", "Succeeded")
    assert cluster.pods()["job-master-0"]["spec"]["restartPolicy"] == "OnFailure"


def test_an_init_image_out_of_reach_keeps_workers_pending(cluster: Cluster) -> None:
    one = replica(1, container(cluster.image, "sleep 2"))
    with cluster.faults.image_missing("alpine:3.10"):
        cluster.apply(pytorchjob("job", master=one, worker=one))
        cluster.wait_condition("job", "Succeeded")
        worker = cluster.pods()["job-worker-0"]["status"]
    assert worker["phase"] == "Pending"
    assert worker["initContainerStatuses"][0]["state"]["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert worker["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"


def test_nothing_happens_while_the_operator_is_down(cluster: Cluster) -> None:
    master = replica(1, container(cluster.image, "sleep 1"))
    cluster.apply(pytorchjob("job", master=master))
    cluster.wait_condition("job", "Running")
    with cluster.faults.operator_down():
        cluster.wait(lambda: cluster.pods()["job-master-0"]["status"]["phase"] == "Succeeded")
        assert cluster.conditions("job")["Running"] == "True"
    cluster.wait_condition("job", "Succeeded")


def test_a_queued_job_waits_for_its_queue(cluster: Cluster) -> None:
    cluster.need("Workload")
    job = pytorchjob("job", master=replica(1, container(cluster.image, "true")))
    job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team"}
    cluster.apply(job)
    cluster.wait_condition("job", "Suspended")
    where = ("kueue.x-k8s.io", "v1beta1", cluster.namespace, "workloads")

    def conditions() -> list[Obj]:
        found = cluster.custom.list_namespaced_custom_object(*where)["items"]
        return [one for workload in found for one in (workload.get("status") or {}).get("conditions") or []]

    condition = cluster.wait(conditions)[0]
    assert (condition["type"], condition["status"]) == ("QuotaReserved", "False")
    assert condition["message"] == "LocalQueue team doesn't exist"
