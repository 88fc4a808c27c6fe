"""What the API server checks of an object before it is stored, and with which words it refuses one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container

from .idle_jobs import GROUP, create, refusal, status_of, tiny
from .objects.resources import Obj

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom


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
