"""The schema of each kind: the official ones for what Kubernetes itself serves, for jobs those of their CRDs.

The official definitions are those of the kubernetes-validate package. The CRDs embed the pod template of the same
Kubernetes (training-operator 1.9.4 and trainer 2.3 are both built against 1.36).
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from .quantities import PATTERN
from .resources import CORE_SCHEMA, PYTORCHJOBS, TRAINJOBS, Obj, Resource

VERSION = "1.36"

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
FREE: Obj = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

STRING: Obj = {"type": "string"}
BOOLEAN: Obj = {"type": "boolean"}
INTEGER: Obj = {"type": "integer"}
COUNT: Obj = {"type": "integer", "minimum": 0}
STRINGS: Obj = {"type": "array", "items": STRING}
STRING_MAP: Obj = {"type": "object", "additionalProperties": STRING}


def _object(properties: Obj, *required: str) -> Obj:
    return {"type": "object", "properties": properties, "required": list(required)}


def _ref(name: str) -> Obj:
    return {"$ref": f"#/$defs/{name}"}


def _core(kind: str) -> Obj:
    return _ref(CORE_SCHEMA + kind)


def _list(items: Obj) -> Obj:
    return {"type": "array", "items": items}


TEMPLATE_META = _object(
    {"annotations": STRING_MAP, "finalizers": STRINGS, "labels": STRING_MAP, "name": STRING, "namespace": STRING}
)
REPLICA_SPEC = _object(
    {
        "replicas": INTEGER,
        "restartPolicy": STRING,  # any string: what it means shows only when pods are made
        "template": _object({"metadata": TEMPLATE_META, "spec": _core("PodSpec")}),
    }
)
ELASTIC_POLICY = _object(
    {
        **dict.fromkeys("maxReplicas maxRestarts minReplicas nProcPerNode rdzvPort".split(), INTEGER),
        **dict.fromkeys("rdzvBackend rdzvHost rdzvId".split(), STRING),
        "standalone": BOOLEAN,
        "rdzvConf": _list(_object({"key": STRING, "value": STRING})),
        "metrics": _list(_ref("io.k8s.api.autoscaling.v2.MetricSpec")),
    }
)
SCHEDULING_POLICY = _object(
    {
        "minAvailable": INTEGER,
        "minResources": {"type": "object", "additionalProperties": _ref(QUANTITY)},
        "priorityClass": STRING,
        "queue": STRING,
        "scheduleTimeoutSeconds": INTEGER,
    }
)
RUN_POLICY = _object(
    {
        "activeDeadlineSeconds": INTEGER,
        "backoffLimit": INTEGER,
        "cleanPodPolicy": STRING,
        "managedBy": STRING,
        "schedulingPolicy": SCHEDULING_POLICY,
        "suspend": {"type": "boolean", "default": False},
        "ttlSecondsAfterFinished": INTEGER,
    }
)
PYTORCHJOB_SPEC = _object(
    {
        "elasticPolicy": ELASTIC_POLICY,
        "nprocPerNode": STRING,
        "pytorchReplicaSpecs": {"type": "object", "additionalProperties": REPLICA_SPEC},
        "runPolicy": RUN_POLICY,
    },
    "pytorchReplicaSpecs",
)

NAME = {"type": "string", "minLength": 1, "maxLength": 253}
# Only labels and annotations may be patched, but the CRD takes any metadata.
PATCH_META: Obj = FREE
CONTAINER_PATCH = _object(
    {
        "name": NAME,
        "env": _list(_core("EnvVar")),
        "volumeMounts": _list(_core("VolumeMount")),
        "securityContext": _core("SecurityContext"),
    },
    "name",
)
POD_SPEC_PATCH = _object(
    {
        "serviceAccountName": {"type": "string", "maxLength": 253},
        "volumes": _list(_core("Volume")),
        "initContainers": _list(CONTAINER_PATCH),
        "containers": _list(CONTAINER_PATCH),
        "imagePullSecrets": _list(_core("LocalObjectReference")),
        "securityContext": _core("PodSecurityContext"),
        "nodeSelector": STRING_MAP,
        "affinity": _core("Affinity"),
        "tolerations": _list(_core("Toleration")),
        "schedulingGates": _list(_core("PodSchedulingGate")),
        "terminationGracePeriodSeconds": COUNT,
    }
)
POD_TEMPLATE_PATCH = _object({"metadata": PATCH_META, "spec": POD_SPEC_PATCH})
JOB_PATCH = _object({"metadata": PATCH_META, "spec": _object({"template": POD_TEMPLATE_PATCH})})
REPLICATED_JOB_PATCH = _object({"name": NAME, "template": JOB_PATCH}, "name")
JOBSET_PATCH = _object({"metadata": PATCH_META, "spec": _object({"replicatedJobs": _list(REPLICATED_JOB_PATCH)})})
RUNTIME_PATCH = _object(
    {"manager": NAME, "time": STRING, "trainingRuntimeSpec": _object({"template": JOBSET_PATCH})}, "manager"
)
URI = {"type": "string", "maxLength": 2048, "pattern": r"^([A-Za-z][A-Za-z0-9+.-]*://.+)?$"}
INITIALIZER = _object({"storageUri": URI, "env": _list(_core("EnvVar")), "secretRef": _core("LocalObjectReference")})
TRAINER = _object(
    {
        "image": {"type": "string", "maxLength": 500},
        "command": STRINGS,
        "args": STRINGS,
        "env": _list(_core("EnvVar")),
        "numNodes": INTEGER,
        "resourcesPerNode": _core("ResourceRequirements"),
        "numProcPerNode": INTEGER,
    }
)
TRAINJOB_SPEC = _object(
    {
        "runtimeRef": _object(
            {
                "name": NAME,
                "apiGroup": {"type": "string", "default": "trainer.kubeflow.org"},
                "kind": {"type": "string", "default": "ClusterTrainingRuntime"},
            },
            "name",
        ),
        "initializer": _object({"dataset": INITIALIZER, "model": INITIALIZER}),
        "trainer": TRAINER,
        "runtimePatches": {**_list(RUNTIME_PATCH), "maxItems": 16},
        "suspend": {"type": "boolean", "default": False},
        "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
        "managedBy": {"type": "string", "default": "trainer.kubeflow.org/trainjob-controller"},
    },
    "runtimeRef",
)
CUSTOM_SPECS: dict[Resource, Obj] = {PYTORCHJOBS: PYTORCHJOB_SPEC, TRAINJOBS: TRAINJOB_SPEC}


@cache
def definitions() -> dict[str, Obj]:
    """The official OpenAPI definitions, by name."""
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}.0-local"
    found: dict[str, Obj] = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    # The package's quantity is any string or number.
    found[QUANTITY] = {"type": ["string", "number", "null"], "pattern": PATTERN}
    return found


@cache
def schema_of(resource: Resource) -> Obj:
    """One self-contained JSON Schema."""
    defs = definitions()
    if resource.schema:
        return {**defs[resource.schema], "$defs": defs}
    properties: Obj = {"apiVersion": STRING, "kind": STRING, "metadata": _ref(OBJECT_META), "status": FREE}
    return _object({**properties, "spec": CUSTOM_SPECS.get(resource, FREE)}) | {"$defs": defs}


def resolved(schema: Obj) -> Obj:
    """What a reference refers to; the schema itself where there is none."""
    reference = schema.get("$ref")
    return resolved(definitions()[reference.removeprefix("#/$defs/")]) if reference else schema
