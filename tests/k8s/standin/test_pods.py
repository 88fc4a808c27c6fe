"""The kubelet: what a container is given, and what is told of how it ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container

from .objects.resources import Obj

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom

KILLED = "python -c 'import os; os.kill(os.getpid(), 9)'; exit $?"


def run(cluster: Cluster, *containers: Obj, name: str = "pod", restart: str = "Never", **spec: Any) -> None:
    spec = {"restartPolicy": restart, "terminationGracePeriodSeconds": 1, "containers": list(containers), **spec}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": "b"}}, "spec": spec})


def status(cluster: Cluster, name: str = "pod") -> Obj:
    """Of the pod's first container."""
    statuses = cluster.pods()[name]["status"].get("containerStatuses") or [{}]
    found: Obj = statuses[0]
    return found


def ended(cluster: Cluster, name: str = "pod") -> Obj:
    """The terminated state of the pod's first container, once the pod has ended."""
    cluster.wait(
        lambda: cluster.pods()[name]["status"]["phase"] in ("Succeeded", "Failed"),
        lambda: f"{cluster.pods()[name]['status']} {cluster.events()}",
    )
    state: Obj = status(cluster, name)["state"]["terminated"]
    return state


def waiting_for(cluster: Cluster, reason: str) -> str:
    """Until the pod's first container waits for this reason; returns the message."""
    cluster.wait(
        lambda: (status(cluster).get("state", {}).get("waiting") or {}).get("reason") == reason,
        lambda: str(status(cluster)),
    )
    return str(status(cluster)["state"]["waiting"].get("message", ""))


@pytest.mark.parametrize(
    ("script", "code", "reason", "phase"),
    [("true", 0, "Completed", "Succeeded"), ("exit 75", 75, "Error", "Failed"), (KILLED, 137, "Error", "Failed")],
)
def test_exit_codes(cluster: Cluster, script: str, code: int, reason: str, phase: str) -> None:
    run(cluster, container(cluster.image, script))
    state = ended(cluster)
    assert (state["exitCode"], state["reason"]) == (code, reason)
    assert {"startedAt", "finishedAt", "containerID"} <= state.keys()
    assert cluster.pods()["pod"]["status"]["phase"] == phase


def test_a_container_over_its_memory_limit_is_killed(cluster: Cluster) -> None:
    script = "python -c 'b = bytearray(400 << 20); import time; time.sleep(60)'"
    run(cluster, container(cluster.image, script, resources={"limits": {"memory": "200Mi"}}))
    state = ended(cluster)
    assert (state["exitCode"], state["reason"]) == (137, "OOMKilled")


def test_a_command_that_is_not_in_the_image(cluster: Cluster) -> None:
    run(cluster, {"name": "pytorch", "image": cluster.image, "command": ["nonsense"]})
    state = ended(cluster)
    assert (state["exitCode"], state["reason"]) == (128, "StartError")
    assert 'exec: "nonsense": executable file not found in $PATH' in state["message"]


def test_volumes(cluster: Cluster) -> None:
    """Files of config maps and secrets are read-only; scratch space is writable; memory counts as memory."""
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job"}, "data": {"job.yaml": "a: 1\n"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"token": "s3cret"}},
    )
    sources: dict[str, Obj] = {
        "job": {"configMap": {"name": "job"}},
        "key": {"secret": {"secretName": "key"}},
        "scratch": {"emptyDir": {}},
        "shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
    }
    paths = {"job": "/etc/alignlaunch", "key": "/etc/key", "scratch": "/scratch", "shm": "/dev/shm"}  # noqa: S108
    mounts = [{"name": name, "mountPath": path} for name, path in paths.items()]
    script = (
        "cat /etc/alignlaunch/job.yaml /etc/key/token; echo; touch /scratch/x && echo scratch;"
        "touch /etc/alignlaunch/x 2>&1 | grep -o 'Read-only file system'; df -m --output=size /dev/shm | tail -1"
    )
    volumes = [{"name": name, **source} for name, source in sources.items()]
    run(cluster, container(cluster.image, script, volumeMounts=mounts), volumes=volumes)
    ended(cluster)
    assert cluster.log("pod").split("\n")[:4] == ["a: 1", "s3cret", "scratch", "Read-only file system"]
    assert int(cluster.log("pod").split()[-1]) == 256


def test_what_is_written_outside_of_volumes_is_lost(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "ls /tmp | wc -l; echo x > /tmp/x; exit 1"), restart="OnFailure")
    cluster.wait(lambda: status(cluster).get("restartCount", 0) >= 1)
    assert cluster.wait(lambda: cluster.log("pod")) == "0\n"


def test_shared_memory_is_small_unless_asked_for(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "df -m --output=size /dev/shm | tail -1"))
    ended(cluster)
    assert int(cluster.log("pod")) == 64


def test_environment_by_reference(cluster: Cluster) -> None:
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"token": "s3cret"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"k": "v"}},
    )
    env = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}},
        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "key", "key": "none", "optional": True}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
        {"name": "BOTH", "value": "$(K)/$(POD)/$$(K)/$(NOBODY)"},
        {"name": "K", "value": "last"},
    ]
    run(cluster, container(cluster.image, 'echo "$TOKEN $K ${NONE-unset} $POD $LABEL $BOTH $(hostname)"', env=env))
    ended(cluster)
    assert cluster.log("pod") == "s3cret last unset pod b v/pod/$(K)/$(NOBODY) pod\n"


def test_a_secret_that_is_missing(cluster: Cluster) -> None:
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}}]
    run(cluster, container(cluster.image, "echo $TOKEN", env=env))
    assert waiting_for(cluster, "CreateContainerConfigError") == 'secret "key" not found'
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"token": "x"}})
    ended(cluster)
    assert cluster.log("pod") == "x\n"


def test_a_config_map_that_is_missing(cluster: Cluster) -> None:
    mounts = [{"name": "job", "mountPath": "/etc/job"}]
    volumes = [{"name": "job", "configMap": {"name": "job"}}]
    run(cluster, container(cluster.image, "ls /etc/job", volumeMounts=mounts), volumes=volumes)
    message = cluster.wait_event("pod", "FailedMount")
    assert message == 'MountVolume.SetUp failed for volume "job" : configmap "job" not found'
    assert status(cluster)["state"]["waiting"]["reason"] == "ContainerCreating"


def test_a_claim_that_is_missing(cluster: Cluster) -> None:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "nothing"}}]
    run(cluster, container(cluster.image, "true"), volumes=volumes)
    assert 'persistentvolumeclaim "nothing" not found' in cluster.wait_event("pod", "FailedScheduling")


def test_a_node_selector_that_no_node_has(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "true"), nodeSelector={"gpu-type": "none-such"})
    message = cluster.wait_event("pod", "FailedScheduling")
    assert "node(s) didn't match Pod's node affinity/selector" in message


def test_who_the_process_is(cluster: Cluster) -> None:
    security = {"runAsNonRoot": True, "runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456}
    mounts = [{"name": "scratch", "mountPath": "/scratch"}]
    inner = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    script = "id -u; id -g; id -G; touch /scratch/x; stat -c %g /scratch/x; grep NoNewPrivs /proc/self/status"
    one = container(cluster.image, script, volumeMounts=mounts, securityContext=inner)
    run(cluster, one, securityContext=security, volumes=[{"name": "scratch", "emptyDir": {}}])
    ended(cluster)
    assert cluster.log("pod").split() == ["1234", "2345", "2345", "3456", "3456", "NoNewPrivs:", "1"]


def test_root_is_refused_where_it_is_ruled_out(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "true", securityContext={"runAsNonRoot": True, "runAsUser": 0}))
    cluster.wait(lambda: cluster.pods()["pod"]["status"].get("containerStatuses"))
    waiting_for(cluster, "CreateContainerConfigError")


def test_a_service_account_that_is_missing(cluster: Cluster) -> None:
    spec = {"serviceAccountName": "nobody", "containers": [container(cluster.image, "true")]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    with pytest.raises(ApiException, match=r"serviceaccount .+nobody.+ not found"):
        cluster.apply(pod)


def says_ready(cluster: Cluster, name: str) -> bool:
    return cluster.pods()[name]["status"]["phase"] == "Running" and "ready" in cluster.log(name)


def test_a_deleted_pod_gets_term_and_then_kill(cluster: Cluster) -> None:
    polite = "trap 'exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    deaf = "trap '' TERM; echo ready; while true; do sleep 0.1; done"
    run(cluster, container(cluster.image, polite), name="polite", terminationGracePeriodSeconds=30)
    run(cluster, container(cluster.image, deaf), name="deaf", terminationGracePeriodSeconds=2)
    for name in ("polite", "deaf"):
        cluster.wait(partial(says_ready, cluster, name))
    for name in ("polite", "deaf"):
        cluster.delete("pod", name)
    terminating = cluster.pods()["deaf"]["metadata"]
    assert (terminating["deletionGracePeriodSeconds"], bool(terminating["deletionTimestamp"])) == (2, True)
    cluster.wait(lambda: not cluster.pods(), timeout=20)


def test_crash_loops(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "exit 4"), restart="Always")
    message = waiting_for(cluster, "CrashLoopBackOff")
    assert "restarting failed container=pytorch pod=pod_" in message
    assert cluster.pods()["pod"]["status"]["phase"] == "Running"
    assert status(cluster)["lastState"]["terminated"]["exitCode"] == 4
    assert cluster.wait_event("pod", "BackOff").startswith("Back-off restarting failed container pytorch in pod pod_")


def test_eviction(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "sleep 60"))
    cluster.wait(lambda: cluster.pods()["pod"]["status"]["phase"] == "Running")
    cluster.faults.evict("pod")
    cluster.wait(lambda: cluster.pods()["pod"]["status"]["phase"] == "Failed")
    assert cluster.pods()["pod"]["status"]["reason"] == "Evicted"
