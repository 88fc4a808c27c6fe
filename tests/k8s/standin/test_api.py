"""The API server, through the official client: objects and their versions, lists, deletions, rights."""

from __future__ import annotations

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from tests.k8s.cluster import Cluster

from .idle_jobs import GROUP, create, refusal, status_of, tiny
from .objects.resources import PYTORCHJOBS

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom


def test_a_created_object_has_what_the_server_gives(cluster: Cluster) -> None:
    created = create(cluster, tiny())
    metadata = created["metadata"]
    assert {"uid", "resourceVersion", "creationTimestamp", "generation", "namespace"} <= metadata.keys()
    assert cluster.job("tiny")["spec"]["pytorchReplicaSpecs"] == created["spec"]["pytorchReplicaSpecs"]


def test_a_name_in_use_is_409(cluster: Cluster) -> None:
    create(cluster, tiny())
    status = refusal(cluster, tiny())
    assert (status["code"], status["reason"]) == (409, "AlreadyExists")
    assert status["message"] == 'pytorchjobs.kubeflow.org "tiny" already exists'
    assert status["details"] == {"name": "tiny", "group": "kubeflow.org", "kind": "pytorchjobs"}


def test_a_missing_crd_is_404_in_plain_text(cluster: Cluster) -> None:
    assert cluster.has("PyTorchJob")
    with cluster.faults.crd_missing(PYTORCHJOBS), pytest.raises(ApiException) as refused:
        create(cluster, tiny())
    assert (refused.value.status, refused.value.body) == (404, "404 page not found\n")


def test_a_missing_namespace_is_404_for_a_create_and_an_empty_list(cluster: Cluster) -> None:
    with pytest.raises(ApiException) as refused:
        cluster.custom.create_namespaced_custom_object(*GROUP, "nowhere", "pytorchjobs", tiny())
    status = status_of(refused)
    assert (status["code"], status["message"]) == (404, 'namespaces "nowhere" not found')
    assert status["details"] == {"name": "nowhere", "kind": "namespaces"}
    assert cluster.custom.list_namespaced_custom_object(*GROUP, "nowhere", "pytorchjobs")["items"] == []


def test_a_dry_run_stores_nothing(cluster: Cluster) -> None:
    assert create(cluster, tiny(), dry_run="All", field_validation="Strict")["metadata"]["uid"]
    with pytest.raises(ApiException) as missing:
        cluster.job("tiny")
    status = status_of(missing)
    assert (status["code"], status["message"]) == (404, 'pytorchjobs.kubeflow.org "tiny" not found')


def test_a_missing_right_is_403(cluster: Cluster) -> None:
    reading = {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"], "verbs": ["get", "list"]}
    limited = Cluster(cluster.as_user_with(reading), cluster.namespace, cluster.image)
    create(cluster, tiny())
    assert limited.job("tiny")
    status = refusal(limited, tiny("other"))
    user = f"system:serviceaccount:{cluster.namespace}:tester"
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert status["message"] == (
        f'pytorchjobs.kubeflow.org is forbidden: User "{user}" cannot create resource "pytorchjobs" in API group '
        f'"kubeflow.org" in the namespace "{cluster.namespace}"'
    )
    with pytest.raises(ApiException, match="403"):
        limited.pods()
    assert limited.may("list", "pytorchjobs", "kubeflow.org")
    assert not limited.may("list", "pods")


def test_whether_a_kind_is_installed_is_told_only_to_those_who_may_use_it(cluster: Cluster) -> None:
    limited = Cluster(cluster.as_user_with(), cluster.namespace, cluster.image)
    with cluster.faults.crd_missing(PYTORCHJOBS), pytest.raises(ApiException, match="403"):
        limited.job("tiny")


def test_a_stale_version_is_409(cluster: Cluster) -> None:
    old = create(cluster, tiny())
    patch = {"metadata": {"labels": {"a": "b"}}}
    cluster.custom.patch_namespaced_custom_object(*GROUP, cluster.namespace, "pytorchjobs", "tiny", patch)
    with pytest.raises(ApiException) as refused:
        cluster.custom.replace_namespaced_custom_object(*GROUP, cluster.namespace, "pytorchjobs", "tiny", old)
    status = status_of(refused)
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in status["message"]


def test_status_and_spec_are_written_apart(cluster: Cluster) -> None:
    job = create(cluster, tiny())
    changed = {"status": {"startTime": "2020-01-01T00:00:00Z"}, "metadata": {"labels": {"a": "b"}}}
    patched = cluster.custom.patch_namespaced_custom_object(*GROUP, cluster.namespace, "pytorchjobs", "tiny", changed)
    assert patched["metadata"]["labels"] == {"a": "b"}
    assert (patched.get("status") or {}).get("startTime") != "2020-01-01T00:00:00Z"
    assert patched["metadata"]["generation"] == job["metadata"]["generation"] == 1


def test_lists_come_in_pages_by_labels(cluster: Cluster) -> None:
    for index in range(7):
        job = tiny(f"job-{index}")
        job["metadata"]["labels"] = {"parity": str(index % 2)}
        create(cluster, job)
    where = (*GROUP, cluster.namespace, "pytorchjobs")
    pages, token = [], ""
    while True:
        options = {"_continue": token} if token else {}
        page = cluster.custom.list_namespaced_custom_object(*where, limit=3, **options)
        pages.append([item["metadata"]["name"] for item in page["items"]])
        token = page["metadata"].get("continue", "")
        if not token:
            break
        create(cluster, tiny(f"new-{len(pages)}"))  # a list shows one moment
    assert pages == [["job-0", "job-1", "job-2"], ["job-3", "job-4", "job-5"], ["job-6"]]
    odd = cluster.custom.list_namespaced_custom_object(*where, label_selector="parity in (1),parity!=0")
    assert [item["metadata"]["name"] for item in odd["items"]] == ["job-1", "job-3", "job-5"]
    one = cluster.custom.list_namespaced_custom_object(*where, field_selector="metadata.name=job-4")
    assert [item["metadata"]["name"] for item in one["items"]] == ["job-4"]
    with pytest.raises(ApiException, match="field label not supported"):
        cluster.custom.list_namespaced_custom_object(*where, field_selector="spec.foo=1")


def test_an_old_page_is_410(cluster: Cluster) -> None:
    create(cluster, tiny("one"))
    create(cluster, tiny("two"))
    where = (*GROUP, cluster.namespace, "pytorchjobs")
    first = cluster.custom.list_namespaced_custom_object(*where, limit=1)
    cluster.faults.forget_history()
    with pytest.raises(ApiException) as refused:
        cluster.custom.list_namespaced_custom_object(*where, limit=1, _continue=first["metadata"]["continue"])
    assert (refused.value.status, status_of(refused)["reason"]) == (410, "Expired")


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
def test_what_belongs_to_a_deleted_job_goes_with_it(cluster: Cluster, policy: str) -> None:
    job = create(cluster, tiny())
    owner = {key: job[key] for key in ("apiVersion", "kind")} | {key: job["metadata"][key] for key in ("name", "uid")}
    metadata = {"name": "owned", "ownerReferences": [owner]}
    cluster.core.create_namespaced_config_map(cluster.namespace, {"metadata": metadata})
    where = (*GROUP, cluster.namespace, "pytorchjobs", "tiny")
    cluster.custom.delete_namespaced_custom_object(*where, propagation_policy=policy)
    cluster.wait(lambda: "tiny" not in jobs(cluster))
    if policy == "Orphan":
        assert cluster.owners("configmap", "owned") == []
    else:
        cluster.wait(lambda: "owned" not in cluster.config_maps())


def jobs(cluster: Cluster) -> list[str]:
    found = cluster.custom.list_namespaced_custom_object(*GROUP, cluster.namespace, "pytorchjobs")["items"]
    return [job["metadata"]["name"] for job in found]


def test_a_config_map_of_an_owner_that_never_was_is_collected(cluster: Cluster) -> None:
    owner = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "tiny", "uid": "0" * 8}
    metadata = {"name": "owned", "ownerReferences": [owner]}
    cluster.core.create_namespaced_config_map(cluster.namespace, {"metadata": metadata})
    cluster.wait(lambda: "owned" not in cluster.config_maps())


def test_an_immutable_config_map_stays(cluster: Cluster) -> None:
    body = {"metadata": {"name": "fixed"}, "data": {"a": "b"}, "immutable": True}
    cluster.core.create_namespaced_config_map(cluster.namespace, body)
    with pytest.raises(ApiException, match="field is immutable when `immutable` is set"):
        cluster.core.patch_namespaced_config_map("fixed", cluster.namespace, {"data": {"a": "c"}})


def test_who_nobody_knows_is_401(cluster: Cluster) -> None:
    settings = client.Configuration(host=cluster.api.configuration.host)
    settings.ssl_ca_cert = cluster.api.configuration.ssl_ca_cert
    settings.api_key = {"authorization": "Bearer nobody"}
    with pytest.raises(ApiException) as refused:
        client.CoreV1Api(client.ApiClient(settings)).list_namespaced_pod(cluster.namespace)
    assert (refused.value.status, status_of(refused)["reason"]) == (401, "Unauthorized")


def test_the_server_is_away_and_comes_back(cluster: Cluster) -> None:
    with cluster.faults.api_server_down(), pytest.raises(Exception, match="Connection refused"):
        create(cluster, tiny())
    create(cluster, tiny())
