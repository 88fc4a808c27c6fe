"""The API server, through the official client: what it refuses and with which words, lists, deletions, rights."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container, pytorchjob, replica

from .objects.resources import PYTORCHJOBS, Obj

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom

GROUP = ("kubeflow.org", "v1")


def status_of(refused: pytest.ExceptionInfo[ApiException]) -> Obj:
    """The body of a refusal."""
    status: Obj = json.loads(str(refused.value.body))
    return status


def tiny(name: str = "tiny", **spec: Any) -> Obj:
    """A job that never runs."""
    master = replica(1, container("nowhere.invalid/x:1", "true"))
    return pytorchjob(name, master=master, runPolicy={"suspend": True}, **spec)


def create(cluster: Cluster, job: Obj, **options: Any) -> Obj:
    created: Obj = cluster.custom.create_namespaced_custom_object(
        *GROUP, cluster.namespace, "pytorchjobs", job, **options
    )
    return created


def refusal(cluster: Cluster, job: Obj, **options: Any) -> Obj:
    """The Status with which a job is refused; its code is that of the answer."""
    with pytest.raises(ApiException) as refused:
        create(cluster, job, **options)
    status = status_of(refused)
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", refused.value.status)
    return status


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


def test_unknown_fields_are_400_if_strict_a_warning_if_not(cluster: Cluster) -> None:
    job = tiny(nonsense=1)
    job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]["comand"] = []
    status = refusal(cluster, job, field_validation="Strict")
    assert (status["code"], status["reason"]) == (400, "BadRequest")
    start = 'PyTorchJob in version "v1" cannot be handled as a PyTorchJob: strict decoding error: '
    assert status["message"].startswith(start)
    assert 'unknown field "spec.nonsense"' in status["message"]
    assert 'unknown field "spec.pytorchReplicaSpecs.Master.template.spec.containers[0].comand"' in status["message"]
    created = create(cluster, job)
    assert "nonsense" not in created["spec"]
    _, _, headers = cluster.custom.create_namespaced_custom_object_with_http_info(
        *GROUP, cluster.namespace, "pytorchjobs", tiny("warned", nonsense=1), field_validation="Warn"
    )
    assert 'unknown field \\"spec.nonsense\\"' in headers["Warning"]


def test_duplicate_fields_are_400_if_strict(cluster: Cluster) -> None:
    text = json.dumps(tiny()).replace('"replicas": 1', '"replicas": 1, "replicas": 1')
    path = f"/apis/kubeflow.org/v1/namespaces/{cluster.namespace}/pytorchjobs?fieldValidation=Strict"
    done = cluster.kubectl("create", "--raw", path, "-f", "-", stdin=text, code=1)
    assert 'duplicate field "spec.pytorchReplicaSpecs.Master.replicas"' in done.stderr


def test_wrong_types_and_missing_fields_are_422_with_causes(cluster: Cluster) -> None:
    job = tiny()
    job["spec"]["runPolicy"]["backoffLimit"] = "many"
    del job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]["name"]
    status = refusal(cluster, job, field_validation="Strict")
    assert (status["code"], status["reason"], status["details"]["kind"]) == (422, "Invalid", "PyTorchJob")
    causes = {cause["field"]: (cause["reason"], cause["message"]) for cause in status["details"]["causes"]}
    place = "spec.pytorchReplicaSpecs.Master.template.spec.containers[0].name"
    assert causes[place] == ("FieldValueRequired", "Required value")
    reason, message = causes["spec.runPolicy.backoffLimit"]
    assert reason == "FieldValueTypeInvalid"
    assert message.startswith('Invalid value: "string": spec.runPolicy.backoffLimit in body must be of type integer')


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda job: job["metadata"].update(name="1mini"), "metadata.name: Invalid value"),
        (lambda job: job["metadata"].update(name="mi.ni"), "a DNS-1035 label must consist of"),
        (lambda job: _replicas(job).update(Chief=_replicas(job)["Master"]), 'Unsupported value: "Chief"'),
        (lambda job: _container(job).update(name="main"), "must have at least one container with name pytorch"),
        (lambda job: _container(job).pop("image"), "containers[0].image: Required value: must be required"),
        (lambda job: _replicas(job)["Master"].update(replicas=2), "[Master].replicas: Forbidden: must be 1"),
        (lambda job: _replicas(job)["Master"].pop("replicas"), "[Master].replicas: Forbidden: must be 1"),
        (lambda job: job["spec"].update(elasticPolicy={}), "must be configured if elastic policy is used"),
    ],
)
def test_the_webhook_refuses_with_403(cluster: Cluster, change: Any, says: str) -> None:
    job = tiny()
    change(job)
    for options in ({"dry_run": "All"}, {}):
        status = refusal(cluster, job, field_validation="Strict", **options)
        assert (status["code"], status["reason"]) == (403, "Forbidden")
        start = 'admission webhook "validator.pytorchjob.training-operator.kubeflow.org" denied the request: '
        assert status["message"].startswith(start)
        assert says in status["message"]


def _replicas(job: Obj) -> Obj:
    replicas: Obj = job["spec"]["pytorchReplicaSpecs"]
    return replicas


def _container(job: Obj) -> Obj:
    found: Obj = _replicas(job)["Master"]["template"]["spec"]["containers"][0]
    return found


def test_a_restart_policy_that_does_not_exist_passes_admission(cluster: Cluster) -> None:
    job = tiny()
    _replicas(job)["Master"]["restartPolicy"] = "Sometimes"
    assert create(cluster, job, field_validation="Strict")


def test_with_the_operator_down_every_create_is_refused(cluster: Cluster) -> None:
    with cluster.faults.operator_down():
        status = refusal(cluster, tiny())
    assert (status["code"], status["reason"]) == (500, "InternalError")
    assert 'failed calling webhook "validator.pytorchjob.training-operator.kubeflow.org"' in status["message"]
    create(cluster, tiny())


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


def test_a_full_quota_is_403_also_in_a_dry_run(cluster: Cluster) -> None:
    cluster.limit(**{"count/pytorchjobs.kubeflow.org": "1"})
    create(cluster, tiny("first"))
    for options in ({"dry_run": "All"}, {}):
        status = refusal(cluster, tiny("second"), **options)
        assert (status["code"], status["reason"]) == (403, "Forbidden")
        assert status["message"] == (
            'pytorchjobs.kubeflow.org "second" is forbidden: exceeded quota: limit, requested: '
            "count/pytorchjobs.kubeflow.org=1, used: count/pytorchjobs.kubeflow.org=1, limited: "
            "count/pytorchjobs.kubeflow.org=1"
        )


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


def test_pods_are_checked_by_the_official_schemas_and_more(cluster: Cluster) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "Bad_Name"}}
    spec = {"containers": [container("x", "true", resources={"limits": {"nvidia.com/gpu": "500m"}})]}
    with pytest.raises(ApiException) as refused:
        cluster.core.create_namespaced_pod(cluster.namespace, {**pod, "spec": {**spec, "restartPolicy": "Sometimes"}})
    status = status_of(refused)
    fields = {cause["field"]: cause["message"] for cause in status["details"]["causes"]}
    assert status["code"] == 422
    assert "a lowercase RFC 1123 subdomain must consist of" in fields["metadata.name"]
    assert "must be an integer" in fields["spec.containers[0].resources.limits[nvidia.com/gpu]"]
    supported = 'supported values: "Always", "OnFailure", "Never"'
    assert fields["spec.restartPolicy"] == f'Unsupported value: "Sometimes": {supported}'


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
