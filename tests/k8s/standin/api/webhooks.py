"""The admission webhooks of the training operator and of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.names import dns_1035_problem, invalid
from tests.k8s.standin.objects.resources import PYTORCHJOBS, TRAINJOBS, Obj, Resource
from tests.k8s.standin.objects.status import Cause
from tests.k8s.standin.objects.validation import forbidden, required, unsupported

CONTAINER = "pytorch"
REPLICA_TYPES = ("Master", "Worker")
MANAGERS = ("kubeflow.org/training-operator", "kueue.x-k8s.io/multikueue")
# Set by the trainer itself.
RESERVED_ENV = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
RUNTIME = "torch-distributed"
RUNTIME_CONTAINERS = {"node": {"node"}}  # its replicated jobs


def _pytorchjob(job: Obj) -> Iterator[Cause]:
    if why := dns_1035_problem(job["metadata"]["name"]):
        yield invalid("metadata.name", job["metadata"]["name"], f"should match: {why}")
    spec, path = job["spec"], "spec.pytorchReplicaSpecs"
    manager = (spec.get("runPolicy") or {}).get("managedBy")
    if manager is not None and manager not in MANAGERS:
        yield unsupported("spec.runPolicy.managedBy", manager, MANAGERS)
    replicas = spec["pytorchReplicaSpecs"]
    elastic = spec.get("elasticPolicy")
    if elastic is not None:
        if "Worker" not in replicas:
            yield required(f"{path}[Worker]", "must be configured if elastic policy is used")
        if elastic.get("nProcPerNode") is not None and spec.get("nprocPerNode") is not None:
            yield forbidden("spec.elasticPolicy.nProcPerNode", "must not be used with spec.nprocPerNode")
    for kind, replica in sorted(replicas.items()):
        yield from _replica(f"{path}[{kind}]", kind, replica)


def _replica(path: str, kind: str, replica: Obj) -> Iterator[Cause]:
    if kind not in REPLICA_TYPES:
        yield unsupported(path, kind, REPLICA_TYPES)
    containers = ((replica.get("template") or {}).get("spec") or {}).get("containers") or []
    where = f"{path}.template.spec.containers"
    if not containers:
        yield required(where, "must be specified")
    for index, container in enumerate(containers):
        if not container.get("image"):
            yield required(f"{where}[{index}].image", "must be required")
    if not any(container["name"] == CONTAINER for container in containers):
        yield required(where, f"must have at least one container with name {CONTAINER}")
    count = replica.get("replicas")
    if kind == "Master" and count != 1:
        yield forbidden(f"{path}.replicas", "must be 1")
    elif kind != "Master" and count is not None and count < 1:
        yield forbidden(f"{path}.replicas", "must be at least 1")


def _trainjob(job: Obj) -> Iterator[Cause]:
    spec = job["spec"]
    runtime = spec["runtimeRef"]["name"]
    if runtime != RUNTIME:
        why = f'ClusterTrainingRuntime.trainer.kubeflow.org "{runtime}" not found'
        yield invalid("spec.runtimeRef", runtime, f"{why}: specified clusterTrainingRuntime must be created before")
    reserved = sorted({v["name"] for v in (spec.get("trainer") or {}).get("env") or []} & RESERVED_ENV)
    if reserved:
        why = f"must not have reserved envs, invalid envs configured: [{' '.join(reserved)}]"
        yield invalid("spec.trainer.env", "...", why)
    for patch in spec.get("runtimePatches") or []:
        if "/" not in patch["manager"]:
            yield invalid("spec.runtimePatches.manager", patch["manager"], "must be a domain-prefixed path")
        for job_patch in replicated_job_patches(patch):
            yield from _job_patch(job_patch)


def replicated_job_patches(patch: Obj) -> list[Obj]:
    template = (patch.get("trainingRuntimeSpec") or {}).get("template") or {}
    return list((template.get("spec") or {}).get("replicatedJobs") or [])


def _job_patch(patch: Obj) -> Iterator[Cause]:
    path, name = "spec.runtimePatches", patch["name"]
    if name not in RUNTIME_CONTAINERS:
        why = "must not have replicated job that doesn't exist in the runtime job template"
        yield invalid(path, "...", why)
        return
    pod = (((patch.get("template") or {}).get("spec") or {}).get("template") or {}).get("spec") or {}
    for container in pod.get("containers") or []:  # of one that the runtime has not, 2.3 says nothing
        if container["name"] in RUNTIME_CONTAINERS[name] and container.get("env"):
            why = "must not have envs for the dataset-initializer, model-initializer, node containers"
            yield invalid(path, "...", why)


WEBHOOKS: dict[Resource, tuple[str, str, Callable[[Obj], Iterator[Cause]]]] = {
    PYTORCHJOBS: (
        "validator.pytorchjob.training-operator.kubeflow.org",
        "https://training-operator.kubeflow.svc:443/validate-kubeflow-org-v1-pytorchjob?timeout=10s",
        _pytorchjob,
    ),
    TRAINJOBS: (
        "validator.trainjob.trainer.kubeflow.org",
        "https://kubeflow-trainer-controller-manager.kubeflow-system.svc:443/"
        "validate-trainer-kubeflow-org-v1alpha1-trainjob?timeout=10s",
        _trainjob,
    ),
}


def call_webhook(resource: Resource, obj: Obj, *, up: bool) -> None:
    """ApiError when the kind's webhook refuses the object, or is down."""
    if resource not in WEBHOOKS:
        return
    name, url, rules = WEBHOOKS[resource]
    if not up:
        raise status.webhook_down(name, url)
    causes = [str(cause) for cause in rules(obj)]
    if causes:
        raise status.denied(name, causes[0] if len(causes) == 1 else f"[{', '.join(causes)}]")
