"""TrainJobs: schema, webhook, environment, conditions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.k8s.cluster import Cluster

from .objects.resources import JOBS, Obj

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom

GROUP = ("trainer.kubeflow.org", "v1alpha1")
PRINT = "env | grep -E '^(PET_|RANK|WORLD_SIZE|MASTER_)' | sort"


@pytest.fixture(autouse=True)
def _needs_the_trainer(cluster: Cluster) -> None:
    cluster.need("TrainJob")


def trainjob(cluster: Cluster, script: str, **spec: Any) -> Obj:
    cpu = {"requests": {"cpu": "1", "memory": "100Mi"}}
    trainer = {"image": cluster.image, "command": ["sh", "-c", script], "resourcesPerNode": cpu}
    body = {"runtimeRef": {"name": "torch-distributed"}, "trainer": trainer | spec.pop("trainer", {})}
    body |= {"runtimePatches": [patch(terminationGracePeriodSeconds=1)], **spec}
    return {"apiVersion": "/".join(GROUP), "kind": "TrainJob", "metadata": {"name": "job"}, "spec": body}


def patch(**pod: Any) -> Obj:
    """A runtime patch of the nodes' pods."""
    node = {"name": "node", "template": {"spec": {"template": {"spec": pod}}}}
    template = {"template": {"spec": {"replicatedJobs": [node]}}}
    return {"manager": "alignlaunch.test/tests", "trainingRuntimeSpec": template}


def nodes(cluster: Cluster) -> list[Obj]:
    """The pods, by their index."""
    index = "batch.kubernetes.io/job-completion-index"
    return sorted(cluster.pods().values(), key=lambda pod: str(pod["metadata"]["labels"][index]))


def test_two_nodes(cluster: Cluster) -> None:
    cluster.apply(trainjob(cluster, PRINT, trainer={"numNodes": 2, "numProcPerNode": 4}))
    assert cluster.wait_condition("job", "Complete", "Failed", plural="trainjobs") == "Complete"
    for rank, pod in enumerate(nodes(cluster)):
        name = pod["metadata"]["name"]
        assert name.startswith(f"job-node-0-{rank}-")
        assert pod["metadata"]["labels"]["jobset.sigs.k8s.io/jobset-name"] == "job"
        assert dict(line.split("=", 1) for line in cluster.log(name).splitlines()) == {
            "PET_NNODES": "2",
            "PET_NPROC_PER_NODE": "4",
            "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": "job-node-0-0.job",
            "PET_MASTER_PORT": "29500",
        }


def test_without_gpus_the_processes_are_as_many_as_cpus(cluster: Cluster) -> None:
    cpus = {"requests": {"cpu": "3", "memory": "100Mi"}}
    cluster.apply(trainjob(cluster, PRINT, trainer={"resourcesPerNode": cpus}))
    cluster.wait_condition("job", "Complete", plural="trainjobs")
    assert "PET_NPROC_PER_NODE=3" in cluster.log(nodes(cluster)[0]["metadata"]["name"])


def test_without_spec_trainer_nothing_is_set(cluster: Cluster) -> None:
    job = trainjob(cluster, "true", suspend=True)
    del job["spec"]["trainer"]
    cluster.apply(job)
    cluster.wait_condition("job", "Suspended", plural="trainjobs")
    child = cluster.request("GET", JOBS, "job-node-0")
    assert not child["spec"]["template"]["spec"]["containers"][0].get("env")


def test_running_is_told_by_the_jobs_status(cluster: Cluster) -> None:
    cluster.apply(trainjob(cluster, "getent hosts job-node-0-0.job; sleep 600"))

    def active() -> bool:
        jobs = (cluster.job("job", "trainjobs").get("status") or {}).get("jobsStatus") or [{}]
        return bool(jobs[0].get("active") and jobs[0].get("ready"))

    cluster.wait(active)
    assert cluster.conditions("job", "trainjobs") == {}
    pod = nodes(cluster)[0]
    assert cluster.wait(lambda: cluster.log(pod["metadata"]["name"])).split()[0] == pod["status"]["podIP"]
    cluster.delete("trainjob", "job")
    cluster.wait(lambda: not cluster.pods())


def test_suspended(cluster: Cluster) -> None:
    cluster.apply(trainjob(cluster, "true", suspend=True))
    cluster.wait_condition("job", "Suspended", plural="trainjobs")
    assert not cluster.pods()


def test_the_active_deadline(cluster: Cluster) -> None:
    cluster.apply(trainjob(cluster, "sleep 600", activeDeadlineSeconds=3))
    cluster.wait_condition("job", "Failed", plural="trainjobs")
    (failed,) = cluster.job("job", "trainjobs")["status"]["conditions"]
    assert (failed["reason"], failed["message"]) == ("DeadlineExceeded", "TrainJob exceeded its active deadline")
    cluster.wait(lambda: not cluster.pods())


def test_a_runtime_patch_reaches_the_pods(cluster: Cluster) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"a": "hello"}})
    mount = {"name": "files", "mountPath": "/etc/alignlaunch"}
    volumes = [{"name": "files", "configMap": {"name": "files"}}]
    change = patch(volumes=volumes, containers=[{"name": "node", "volumeMounts": [mount]}])
    cluster.apply(trainjob(cluster, "cat /etc/alignlaunch/a", runtimePatches=[change]))
    cluster.wait_condition("job", "Complete", plural="trainjobs")
    assert cluster.log(nodes(cluster)[0]["metadata"]["name"]) == "hello"


@pytest.mark.parametrize(
    ("spec", "code", "says"),
    [
        ({"trainer": {"env": [{"name": "PET_NNODES", "value": "2"}]}}, 403, "must not have reserved envs"),
        ({"runtimePatches": [patch() | {"manager": "me"}]}, 403, "runtimePatches.manager"),
        ({"runtimePatches": [patch(containers=[{"name": "node", "env": [{"name": "A"}]}])]}, 403, "must not have envs"),
        ({"runtimeRef": {"name": "nothing"}}, 403, "must be created before"),
        ({"podTemplateOverrides": []}, 400, 'unknown field "spec.podTemplateOverrides"'),
        ({"trainer": {"numProcPerNode": "auto"}}, 422, "must be of type integer"),
        ({"activeDeadlineSeconds": 0}, 422, "spec.activeDeadlineSeconds"),
    ],
)
def test_refused(cluster: Cluster, spec: Obj, code: int, says: str) -> None:
    job = trainjob(cluster, "true", **json.loads(json.dumps(spec)))
    with pytest.raises(ApiException) as refused:
        create = cluster.custom.create_namespaced_custom_object
        create(*GROUP, cluster.namespace, "trainjobs", job, dry_run="All", field_validation="Strict")
    assert refused.value.status == code
    assert says in json.loads(str(refused.value.body))["message"]
