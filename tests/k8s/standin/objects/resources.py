"""The kinds that the stand-in serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: A JSON object, as it travels over the wire.
Obj = dict[str, Any]

CORE_SCHEMA = "io.k8s.api.core.v1."
RBAC_SCHEMA = "io.k8s.api.rbac.v1."


@dataclass(frozen=True)
class Resource:
    """One row of discovery. `schema`: its name in the official OpenAPI definitions; None: a schema of our own."""

    group: str
    version: str
    plural: str
    kind: str
    schema: str | None = None
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    has_status: bool = False
    custom: bool = False  # by a CRD

    @property
    def qualified(self) -> str:
        """As messages and RBAC name it: `pods`, `pytorchjobs.kubeflow.org`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


def _core(plural: str, kind: str, **more: Any) -> Resource:
    return Resource("", "v1", plural, kind, CORE_SCHEMA + kind, **more)


def _rbac(plural: str, kind: str) -> Resource:
    return Resource("rbac.authorization.k8s.io", "v1", plural, kind, RBAC_SCHEMA + kind)


NAMESPACES = _core("namespaces", "Namespace", namespaced=False, short_names=("ns",), has_status=True)
NODES = _core("nodes", "Node", namespaced=False, short_names=("no",), has_status=True)
PODS = _core("pods", "Pod", short_names=("po",), has_status=True)
CONFIG_MAPS = _core("configmaps", "ConfigMap", short_names=("cm",))
SECRETS = _core("secrets", "Secret")
SERVICES = _core("services", "Service", short_names=("svc",), has_status=True)
EVENTS = _core("events", "Event", short_names=("ev",))
CLAIMS = _core("persistentvolumeclaims", "PersistentVolumeClaim", short_names=("pvc",), has_status=True)
SERVICE_ACCOUNTS = _core("serviceaccounts", "ServiceAccount", short_names=("sa",))
QUOTAS = _core("resourcequotas", "ResourceQuota", short_names=("quota",), has_status=True)
ROLES = _rbac("roles", "Role")
ROLE_BINDINGS = _rbac("rolebindings", "RoleBinding")
PRIORITY_CLASSES = Resource(
    "scheduling.k8s.io",
    "v1",
    "priorityclasses",
    "PriorityClass",
    "io.k8s.api.scheduling.v1.PriorityClass",
    namespaced=False,
    short_names=("pc",),
)
CRDS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
    short_names=("crd", "crds"),
    has_status=True,
)
PYTORCHJOBS = Resource("kubeflow.org", "v1", "pytorchjobs", "PyTorchJob", has_status=True, custom=True)
TRAINJOBS = Resource("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob", has_status=True, custom=True)
RUNTIMES = Resource(
    "trainer.kubeflow.org",
    "v1alpha1",
    "clustertrainingruntimes",
    "ClusterTrainingRuntime",
    namespaced=False,
    custom=True,
)
JOBS = Resource("batch", "v1", "jobs", "Job", "io.k8s.api.batch.v1.Job", has_status=True)
JOBSETS = Resource("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet", has_status=True, custom=True)
WORKLOADS = Resource(
    "kueue.x-k8s.io", "v1beta1", "workloads", "Workload", short_names=("wl",), has_status=True, custom=True
)
LOCAL_QUEUES = Resource("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue", has_status=True, custom=True)

RESOURCES = (
    *(NAMESPACES, NODES, PODS, CONFIG_MAPS, SECRETS, SERVICES, EVENTS, CLAIMS, SERVICE_ACCOUNTS, QUOTAS),
    *(ROLES, ROLE_BINDINGS, PRIORITY_CLASSES, CRDS),
    *(PYTORCHJOBS, TRAINJOBS, RUNTIMES, JOBS, JOBSETS, WORKLOADS, LOCAL_QUEUES),
)


def resource_of(kind: str, api_version: str) -> Resource | None:
    """The resource of an object or owner reference."""
    return next((r for r in RESOURCES if (r.kind, r.api_version) == (kind, api_version)), None)
