"""What the trainer makes of a TrainJob under the runtime `torch-distributed`: a JobSet, its Job, service and pods.

From trainer 2.3. Unlike a PyTorchJob's, the environment holds neither WORLD_SIZE nor RANK.
"""

from __future__ import annotations

import copy
import secrets
import string

from tests.k8s.standin.api.webhooks import replicated_job_patches
from tests.k8s.standin.objects.patches import strategic_merge
from tests.k8s.standin.objects.quantities import amounts
from tests.k8s.standin.objects.resources import Obj

from .controller import owner_reference

RUNTIME_IMAGE = "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"
NODE, PORT = "node", 29500
INDEX = "batch.kubernetes.io/job-completion-index"
JOBSET_NAME = "jobset.sigs.k8s.io/jobset-name"


def child_name(job: Obj) -> str:
    """Of the one Job."""
    return f"{job['metadata']['name']}-{NODE}-0"


def num_nodes(job: Obj) -> int:
    return int((job["spec"].get("trainer") or {}).get("numNodes") or 1)


def num_proc_per_node(trainer: Obj) -> str:
    """As given, else `auto`, which torchrun reads as GPUs; without GPUs the number of CPUs."""
    if trainer.get("numProcPerNode") is not None:
        return str(trainer["numProcPerNode"])
    resources = trainer.get("resourcesPerNode") or {}
    limits, requests = amounts(resources.get("limits")), amounts(resources.get("requests"))
    if any("gpu" in name for name in (*limits, *requests)):
        return "auto"
    return str(max(1, int(requests.get("cpu") or limits.get("cpu") or 0)))


def environment(job: Obj) -> list[Obj]:
    """What the trainer sets in the container `node`; nothing without spec.trainer."""
    trainer, name = job["spec"].get("trainer"), job["metadata"]["name"]
    if trainer is None:
        return []
    rank = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    return [
        *(trainer.get("env") or []),
        {"name": "PET_NNODES", "value": str(num_nodes(job))},
        {"name": "PET_NPROC_PER_NODE", "value": num_proc_per_node(trainer)},
        {"name": "PET_NODE_RANK", "valueFrom": rank},
        {"name": "PET_MASTER_ADDR", "value": f"{child_name(job)}-0.{name}"},
        {"name": "PET_MASTER_PORT", "value": str(PORT)},
    ]


def jobset(job: Obj) -> Obj:
    metadata = {"name": job["metadata"]["name"], "ownerReferences": [owner_reference(job)]}
    return {"metadata": metadata, "spec": {"replicatedJobs": [{"name": NODE, "replicas": 1}]}}


def service(job: Obj, jobset: Obj) -> Obj:
    """Headless, and it names pods that are not ready too."""
    name = job["metadata"]["name"]
    spec = {"clusterIP": "None", "selector": {JOBSET_NAME: name}, "publishNotReadyAddresses": True}
    return {"metadata": {"name": name, "ownerReferences": [owner_reference(jobset)]}, "spec": spec}


def child(job: Obj, jobset: Obj) -> Obj:
    """The Job whose pods are the nodes."""
    count = num_nodes(job)
    spec = {"parallelism": count, "completions": count, "completionMode": "Indexed", "backoffLimit": 6}
    labels = {**_labels(job), "trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    metadata = {"name": child_name(job), "labels": labels, "ownerReferences": [owner_reference(jobset)]}
    return {"metadata": metadata, "spec": {**spec, "template": _template(job)}}


def pod(job: Obj, child: Obj, index: int) -> Obj:
    template = copy.deepcopy(child["spec"]["template"])
    hostname = f"{child_name(job)}-{index}"
    suffix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(5))
    metadata = template["metadata"]
    metadata["labels"] |= {INDEX: str(index), "batch.kubernetes.io/job-name": child["metadata"]["name"]}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: str(index)}
    metadata |= {"name": f"{hostname}-{suffix}", "ownerReferences": [owner_reference(child)]}
    return {
        "metadata": metadata,
        "spec": template["spec"] | {"hostname": hostname, "subdomain": job["metadata"]["name"]},
    }


def _labels(job: Obj) -> dict[str, str]:
    name = job["metadata"]["name"]
    return {JOBSET_NAME: name, "jobset.sigs.k8s.io/replicatedjob-name": NODE, "jobset.sigs.k8s.io/job-index": "0"}


def _template(job: Obj) -> Obj:
    trainer = job["spec"].get("trainer") or {}
    container: Obj = {"name": NODE, "image": trainer.get("image") or RUNTIME_IMAGE, "env": environment(job)}
    container |= {key: trainer[key] for key in ("command", "args") if trainer.get(key)}
    container |= {"resources": trainer["resourcesPerNode"]} if trainer.get("resourcesPerNode") else {}
    container["ports"] = [{"containerPort": PORT}]
    template: Obj = {"metadata": {"labels": {}}, "spec": {"containers": [container], "restartPolicy": "OnFailure"}}
    for patch in job["spec"].get("runtimePatches") or []:
        for one in replicated_job_patches(patch):
            change = ((one.get("template") or {}).get("spec") or {}).get("template") or {}
            template = strategic_merge(template, change)
    template["metadata"]["labels"] |= _labels(job)
    return template
