"""Logs: their options, followed ones, those of the attempt before, and those that are not there."""

from __future__ import annotations

import json
import threading
from datetime import datetime

import pytest
from kubernetes.client import ApiException

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container

from .test_pods import ended, run, status, waiting_for

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom


def refused(cluster: Cluster, **options: object) -> str:
    """The message of a 400."""
    with pytest.raises(ApiException) as refusal:
        cluster.log("pod", **options)
    answer = json.loads(str(refusal.value.body))
    assert (answer["code"], answer["reason"]) == (400, "BadRequest")
    return str(answer["message"])


def test_options(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "echo one; echo two >&2; sleep 2; printf three"))
    ended(cluster)
    assert cluster.log("pod").splitlines() == ["one", "two", "three"]
    assert cluster.log("pod", tail_lines=1).strip() == "three"
    stamped = [line.split(" ", 1) for line in cluster.log("pod", timestamps=True).splitlines()]
    assert [text for _, text in stamped] == ["one", "two", "three"]
    first, *_, last = [datetime.fromisoformat(stamp) for stamp, _ in stamped]
    assert 1 < (last - first).total_seconds() < 20
    assert cluster.log("pod", since_seconds=600).splitlines() == ["one", "two", "three"]


def test_the_log_since_a_moment(cluster: Cluster) -> None:
    """The client has no argument for it."""
    run(cluster, container(cluster.image, "echo one; sleep 2; echo two"))
    ended(cluster)
    stamp = cluster.log("pod", timestamps=True).splitlines()[1].split()[0]
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/pod/log?sinceTime={stamp}"
    assert cluster.kubectl("get", "--raw", path).stdout == "two\n"


def test_follow_ends_with_the_container(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "for i in 1 2 3 4; do echo $i; sleep 0.5; done"))
    cluster.wait(lambda: "running" in status(cluster).get("state", {}))
    stream = cluster.core.read_namespaced_pod_log("pod", cluster.namespace, follow=True, _preload_content=False)
    lines = b"".join(stream.stream()).decode().splitlines()
    assert lines == ["1", "2", "3", "4"]


def test_a_followed_log_can_be_cut(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "echo one; sleep 60"))
    cluster.wait(lambda: "running" in status(cluster).get("state", {}))
    cluster.wait(lambda: cluster.log("pod"))
    stream = cluster.core.read_namespaced_pod_log("pod", cluster.namespace, follow=True, _preload_content=False)
    threading.Timer(1, cluster.faults.drop_watches).start()
    with pytest.raises(Exception, match="prematurely"):
        list(stream.stream())


def test_the_attempt_before(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "echo $(date +%N); exit 1"), restart="OnFailure")
    waiting_for(cluster, "CrashLoopBackOff")
    assert status(cluster)["restartCount"] >= 1
    previous = cluster.log("pod", previous=True)
    assert previous.strip().isdigit()


def test_no_attempt_before(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "sleep 60"))
    cluster.wait(lambda: "running" in status(cluster).get("state", {}))
    assert refused(cluster, previous=True) == 'previous terminated container "pytorch" in pod "pod" not found'


def test_a_container_that_waits(cluster: Cluster) -> None:
    run(cluster, container(cluster.unpullable_image, "true"))
    waiting_for(cluster, "ImagePullBackOff")
    start = 'container "pytorch" in pod "pod" is waiting to start: '
    assert refused(cluster) in (f"{start}trying and failing to pull image", f"{start}image can't be pulled")


def test_which_container(cluster: Cluster) -> None:
    run(cluster, container(cluster.image, "echo a"), {**container(cluster.image, "echo b"), "name": "other"})
    ended(cluster)
    assert refused(cluster) == "a container name must be specified for pod pod, choose one of: [pytorch other]"
    assert refused(cluster, container="third") == "container third is not valid for pod pod"
    assert cluster.log("pod", container="other") == "b\n"
