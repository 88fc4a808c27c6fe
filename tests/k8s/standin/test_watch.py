"""Watches through the official client: resumed, filtered, ended, cut, too old."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import watch
from kubernetes.client import ApiException

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container, pytorchjob, replica

from .injection import Injection
from .objects.resources import Obj

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom


def stream(*arguments: Any, **options: Any) -> Iterator[Any]:
    """The events of a watch."""
    new: Any = watch.Watch
    yield from new().stream(*arguments, **options)


def write(cluster: Cluster, name: str, **labels: str) -> str:
    """Make a config map or change its labels; returns its new version."""
    metadata = {"name": name, "labels": labels}
    core, namespace = cluster.core, cluster.namespace
    if name in cluster.config_maps():
        body: Any = {"metadata": {"labels": {"a": None, **labels}}}
        stored = core.patch_namespaced_config_map(name, namespace, body)
    else:
        stored = core.create_namespaced_config_map(namespace, {"metadata": metadata})
    return str(stored.metadata.resource_version)


def seen(cluster: Cluster, **options: Any) -> list[tuple[str, str]]:
    """Type and name of each event, but for what the cluster itself keeps."""
    listing = cluster.core.list_namespaced_config_map
    events = stream(listing, cluster.namespace, **{"timeout_seconds": 2, **options})
    found = [(event["type"], event["object"].metadata.name) for event in events]
    return [(kind, name) for kind, name in found if not name.endswith("-ca.crt")]


def test_it_begins_after_the_version_and_ends_in_time(cluster: Cluster) -> None:
    write(cluster, "one")
    version = write(cluster, "two")
    write(cluster, "two", a="b")
    write(cluster, "three")
    cluster.core.delete_namespaced_config_map("one", cluster.namespace)
    begun = time.monotonic()
    events = seen(cluster, resource_version=version)
    assert events == [("MODIFIED", "two"), ("ADDED", "three"), ("DELETED", "one")]
    assert 1.5 < time.monotonic() - begun < 10


def test_without_a_version_it_begins_with_what_is_there(cluster: Cluster) -> None:
    write(cluster, "one")
    threading.Timer(0.5, write, (cluster, "two")).start()
    assert seen(cluster) == [("ADDED", "one"), ("ADDED", "two")]


def test_what_no_longer_matches_is_gone(cluster: Cluster) -> None:
    version = write(cluster, "one", a="b")
    write(cluster, "one", a="c")
    write(cluster, "one", a="b")
    events = seen(cluster, resource_version=version, label_selector="a=b")
    assert events == [("DELETED", "one"), ("ADDED", "one")]


def test_bookmarks_carry_a_version(cluster: Cluster) -> None:
    options = {"timeout_seconds": 7, "allow_watch_bookmarks": True, "resource_version": write(cluster, "one")}
    listing = cluster.core.list_namespaced_config_map
    marks = list(stream(listing, cluster.namespace, **options))
    assert marks[-1]["type"] == "BOOKMARK"
    assert marks[-1]["raw_object"]["metadata"]["resourceVersion"]


def test_an_old_version_is_410(cluster: Cluster) -> None:
    version = write(cluster, "one")
    cluster.faults.forget_history()
    with pytest.raises(ApiException) as refused:
        seen(cluster, resource_version=version)
    assert (refused.value.status, "too old resource version" in str(refused.value.reason)) == (410, True)


def test_a_watch_can_be_cut(cluster: Cluster) -> None:
    threading.Timer(1, cluster.faults.drop_watches).start()
    with pytest.raises(Exception, match="prematurely"):
        seen(cluster, timeout_seconds=30)


def test_answers_can_be_errors_for_a_while(cluster: Cluster) -> None:
    cluster.faults.inject(Injection(500, method="GET", path="configmaps", times=2))
    codes: list[int | None] = []
    while True:
        try:
            cluster.config_maps()
        except ApiException as error:
            codes.append(error.status)
        else:
            break
    assert codes == [500, 500]


def test_a_watch_sees_a_job_from_its_creation_to_its_end(cluster: Cluster) -> None:
    cluster.need("PyTorchJob")
    cluster.apply(pytorchjob("job", master=replica(1, container(cluster.image, "sleep 1"))))
    listing = cluster.custom.list_namespaced_custom_object
    where = ("kubeflow.org", "v1", cluster.namespace, "pytorchjobs")
    states: list[str] = []
    for event in stream(listing, *where, timeout_seconds=60):
        conditions: list[Obj] = (event["object"].get("status") or {}).get("conditions") or []
        now = [one["type"] for one in conditions if one["status"] == "True"]
        states += [one for one in now if one not in states]
        if "Succeeded" in now:
            break
    assert states == ["Created", "Running", "Succeeded"]
