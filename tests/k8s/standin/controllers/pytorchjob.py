"""What the training operator makes of a PyTorchJob: defaults, pods with their environment, services.

From training-operator 1.9.4, whose environment misleads: RANK is the pod's index, and WORLD_SIZE counts nprocPerNode
only where that is a number.
"""

from __future__ import annotations

import copy

from tests.k8s.standin.api.webhooks import CONTAINER
from tests.k8s.standin.objects.resources import Obj

from .controller import owner_reference

PORT_NAME, PORT = "pytorchjob-port", 23456
JOB_NAME, REPLICA_TYPE, REPLICA_INDEX, JOB_ROLE, OPERATOR = (
    f"training.kubeflow.org/{key}" for key in ("job-name", "replica-type", "replica-index", "job-role", "operator-name")
)
INIT_IMAGE = "alpine:3.10"
WAIT_FOR_MASTER = (
    "err=1;for i in $(seq 100); do if nslookup {master}; then err=0 && break; fi;"
    "echo waiting for master; sleep 2; done; exit $err"
)


def defaulted(job: Obj) -> Obj:
    """A copy with the operator's defaults, which it never stores."""
    job = copy.deepcopy(job)
    spec = job["spec"]
    _fill(spec.setdefault("runPolicy", {}), "cleanPodPolicy", "None")
    for replica in spec["pytorchReplicaSpecs"].values():
        _fill(replica, "replicas", 1)
        _fill(replica, "restartPolicy", "OnFailure")
        container = next(c for c in replica["template"]["spec"]["containers"] if c["name"] == CONTAINER)
        ports = container.setdefault("ports", [])
        if not any(port.get("name") == PORT_NAME for port in ports):
            ports.append({"name": PORT_NAME, "containerPort": PORT})
    elastic = spec.get("elasticPolicy")
    if elastic is not None:
        workers = spec["pytorchReplicaSpecs"]["Worker"]["replicas"]
        given = [elastic.get(key) for key in ("minReplicas", "maxReplicas")]
        elastic["minReplicas"] = given[0] or given[1] or workers
        elastic["maxReplicas"] = given[1] or given[0] or workers
    if elastic is None or elastic.get("nProcPerNode") is None:
        _fill(spec, "nprocPerNode", "auto")
    return job


def _fill(target: Obj, key: str, value: object) -> None:
    if target.get(key) is None:
        target[key] = value


def pod_name(job: Obj, kind: str, index: int) -> str:
    return f"{job['metadata']['name']}-{kind.lower()}-{index}"


def environment(job: Obj, kind: str, index: int) -> dict[str, str]:
    """What the operator appends to the environment of each container, in its order."""
    spec = job["spec"]
    pods = sum(replica["replicas"] for replica in spec["pytorchReplicaSpecs"].values())
    nproc, elastic = spec.get("nprocPerNode"), spec.get("elasticPolicy")
    env = {"PYTHONUNBUFFERED": "1"}
    if "Master" in spec["pytorchReplicaSpecs"]:
        port, address = str(_port(job, "Master")), pod_name(job, "Master", 0)
        env |= {"MASTER_PORT": port, "PET_MASTER_PORT": port, "MASTER_ADDR": address, "PET_MASTER_ADDR": address}
        rank = str(index + (kind == "Worker"))
        world_size = pods * (int(nproc) if nproc and nproc.isdigit() else 1)
        env |= {"WORLD_SIZE": str(world_size), "RANK": rank, "PET_NODE_RANK": rank}
    if nproc is not None:
        env["PET_NPROC_PER_NODE"] = nproc
    return env | (_elastic_environment(job, elastic) if elastic is not None else {"PET_NNODES": str(pods)})


def _elastic_environment(job: Obj, elastic: Obj) -> dict[str, str]:
    host, port = elastic.get("rdzvHost") or pod_name(job, "Worker", 0), elastic.get("rdzvPort") or _port(job, "Worker")
    env = {
        "PET_RDZV_ENDPOINT": f"{host}:{port}",
        "PET_RDZV_BACKEND": elastic.get("rdzvBackend") or "c10d",
        "PET_NNODES": f"{elastic['minReplicas']}:{elastic['maxReplicas']}",
    }
    keys = {"PET_MAX_RESTARTS": "maxRestarts", "PET_NPROC_PER_NODE": "nProcPerNode", "PET_RDZV_ID": "rdzvId"}
    env |= {name: str(elastic[key]) for name, key in keys.items() if elastic.get(key) is not None}
    if elastic.get("rdzvConf"):
        env["PET_RDZV_CONF"] = ",".join(f"{conf['key']}={conf['value']}" for conf in elastic["rdzvConf"])
    if elastic.get("standalone"):
        env["PET_STANDALONE"] = ""
    return env


def _port(job: Obj, kind: str) -> int:
    containers = job["spec"]["pytorchReplicaSpecs"][kind]["template"]["spec"]["containers"]
    ports = next(container["ports"] for container in containers if container["name"] == CONTAINER)
    return next(int(port["containerPort"]) for port in ports if port.get("name") == PORT_NAME)


def job_labels(job: Obj) -> dict[str, str]:
    return {OPERATOR: "pytorchjob-controller", JOB_NAME: job["metadata"]["name"]}


def labels(job: Obj, kind: str, index: int) -> dict[str, str]:
    return {**job_labels(job), REPLICA_TYPE: kind.lower(), REPLICA_INDEX: str(index)}


def pod(job: Obj, kind: str, index: int) -> Obj:
    """One pod of a defaulted job."""
    kinds = job["spec"]["pytorchReplicaSpecs"]
    replica = copy.deepcopy(kinds[kind])
    template = replica["template"]
    spec, metadata = template["spec"], template.get("metadata") or {}
    leads = kind == "Master" if "Master" in kinds else index == 0
    own = {**labels(job, kind, index), **({JOB_ROLE: "master"} if leads else {})}
    for container in spec["containers"]:
        added = [{"name": name, "value": value} for name, value in environment(job, kind, index).items()]
        container["env"] = [*(container.get("env") or []), *added]
    if kind == "Worker" and "Master" in kinds:
        spec["initContainers"] = [*(spec.get("initContainers") or []), _init_container(job)]
    policy = replica["restartPolicy"]
    spec["restartPolicy"] = "Never" if policy == "ExitCode" else policy
    kept = {key: metadata[key] for key in ("annotations", "finalizers") if metadata.get(key)}
    about = {"name": pod_name(job, kind, index), "labels": {**(metadata.get("labels") or {}), **own}}
    return {"metadata": {**about, **kept, "ownerReferences": [owner_reference(job)]}, "spec": spec}


def _init_container(job: Obj) -> Obj:
    return {
        "name": "init-pytorch",
        "image": INIT_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", WAIT_FOR_MASTER.format(master=pod_name(job, "Master", 0))],
        "resources": {"limits": {"cpu": "100m", "memory": "20Mi"}, "requests": {"cpu": "50m", "memory": "10Mi"}},
    }


def service(job: Obj, kind: str, index: int) -> Obj:
    """The headless service of one pod, of the same name."""
    own = labels(job, kind, index)
    containers = job["spec"]["pytorchReplicaSpecs"][kind]["template"]["spec"]["containers"]
    ports = next(container["ports"] for container in containers if container["name"] == CONTAINER)
    listed = [{"name": port["name"], "port": port["containerPort"]} for port in ports]
    metadata = {"name": pod_name(job, kind, index), "labels": own, "ownerReferences": [owner_reference(job)]}
    return {"metadata": metadata, "spec": {"clusterIP": "None", "selector": own, "ports": listed}}
