"""The values for the manifest templates in `templates/k8s/`, computed from the job."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from hashlib import sha256
from typing import Any

from ..job.job import Job, seconds
from ..job.k8s.rules import CONFIG_DIR, SHM_DIR
from ..job.k8s.spec import K8s, Toleration, Volume
from . import origin

#: Seconds that torchrun waits for the pod that hosts the rendezvous, which may still be pulling its image.
_RENDEZVOUS_WAIT = "900"
#: Seconds that a pod which is evicted or deleted has for a step and a checkpoint; it ends as soon as these are done.
_GRACE_SECONDS = 300
#: Restarts of pods in place after which an elastic job, or one with OnFailure, counts as failed.
_BACKOFF_LIMIT = 10
#: The suffixes of a Kubernetes quantity and their factors.
_SUFFIXES = {
    **{name: Decimal(1000) ** power for power, name in enumerate(("m", "", "k", "M", "G", "T", "P"), start=-1)},
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}
#: Subfolder of the output folder for torchrun's log files, one for each process.
LOGS = "logs"


def values(job: Job, config: dict[str, str]) -> dict[str, Any]:
    """The template variables.

    config: the files in the ConfigMap. Its name contains their digest and it is immutable, so that a queued job keeps
    its own config while the next version of the job is applied.
    """
    k8s = job.spec.k8s or K8s()
    digest = sha256(json.dumps({name: origin.without(text) for name, text in config.items()}).encode()).hexdigest()
    config_name = f"{job.object_name}-{digest[:8]}"
    mounts, volumes = _mounts_and_volumes(k8s, config_name)
    labels = _labels(job, k8s)
    return {
        "k8s": k8s,
        "config": config,
        "config_name": config_name,
        "command": _command(job, k8s),
        "labels": labels,
        "job_labels": labels | ({"kueue.x-k8s.io/queue-name": k8s.queue} if k8s.queue else {}),
        "annotations": {**k8s.annotations, origin.LABEL: job.digest},
        "env": _env(job, k8s, config_name),
        "resources": _resources(job, k8s),
        "security_context": _container_security(k8s),
        "mounts": mounts,
        "volumes": volumes,
        "pod": _pod(job, k8s),
        "run_policy": _run_policy(job, k8s),
        "restart_policy": _restart_policy(job, k8s),
        "replicas": _replicas(job),
        "elastic_policy": _elastic_policy(job),
        "deadline": deadline(job),
        "runtime": k8s.runtime or "torch-distributed",
    }


def _command(job: Job, k8s: K8s) -> list[str]:
    resolved, timeout = f"{CONFIG_DIR}/job.resolved.yaml", job.preflight_seconds("k8s")
    preflight = ["python3", "-m", "alignlaunch.train.preflight", "--timeout", str(timeout), resolved, "--"]
    launcher = ["python3", "-m", "alignlaunch.train.torchrun", "-m", "alignlaunch.train", resolved]
    command = [*(preflight if timeout else []), *launcher]
    if k8s.kind == "TrainJob" and k8s.working_dir:  # a TrainJob has no field for a working directory
        return ["env", "-C", literal(k8s.working_dir), *command]
    return command


def _labels(job: Job, k8s: K8s) -> dict[str, str]:
    own = {"app.kubernetes.io/managed-by": "alignlaunch", "alignlaunch/job": job.object_name}
    own |= {"alignlaunch/stage": job.spec.stage} | ({"alignlaunch/owner": k8s.owner} if k8s.owner else {})
    return {**own, **k8s.labels, **own}  # ours come first and cannot be overridden: runs are found by them


def _env(job: Job, k8s: K8s, config_name: str) -> list[dict[str, Any]]:
    """The container's variables: ours, then the job's, which win. The operator adds those of the rendezvous."""
    interface = job.cluster.network_interface
    plain = {"NCCL_SOCKET_IFNAME": interface, "GLOO_SOCKET_IFNAME": interface} if interface else {}
    # Identifies the run that owns the checkpoints in the output folder, so that a restarted pod resumes only its own.
    plain["ALIGNLAUNCH_RUN_ID"] = config_name
    # Every log line starts with its rank. A deleted pod's log is lost, so torchrun writes a copy to the output folder.
    plain |= {"PYTHONUNBUFFERED": "1", "PET_TEE": "3", "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank${rank}]: "}
    plain["PET_LOG_DIR"] = f"{job.spec.output_dir}/{LOGS}"
    plain["OMP_NUM_THREADS"] = str(_threads(job, k8s))
    if job.elastic is None:  # else the operator sets it
        plain["PET_MAX_RESTARTS"] = str(job.spec.max_restarts)
    if job.cluster.device == "cpu":
        plain["CUDA_VISIBLE_DEVICES"] = ""  # use no GPU, even on a node that has one
    else:  # as in templates/environment.sh.j2, but into the output folder: a pod's file system is lost with the pod
        plain |= {"TORCH_FR_BUFFER_SIZE": "2000", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}
        plain["TORCH_FR_DUMP_TEMP_FILE"] = f"{job.spec.output_dir}/fr_rank_"
    plain |= job.env
    variables: dict[str, dict[str, Any]] = {name: {"value": literal(value)} for name, value in plain.items()}
    for name in job.spec.secrets:
        secret = k8s.secrets[name]
        variables[name] = {"valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key or name}}}
    return [{"name": name, **source} for name, source in variables.items()]


def literal(value: str) -> str:
    """Escape text against Kubernetes' expansion: it replaces `$(NAME)` by a variable, and `$$` by `$`."""
    return value.replace("$", "$$")


def _threads(job: Job, k8s: K8s) -> int:
    """OMP threads for each process: its share of the pod's CPUs. The default would be all cores of the node."""
    number, suffix = re.fullmatch(r"([\d.]+)(\D*)", str(_cpu(job, k8s))).groups()  # type: ignore[union-attr] # spec.Quantity
    return max(1, int(Decimal(number) * _SUFFIXES[suffix] / job.spec.nproc_per_node))


def _cpu(job: Job, k8s: K8s) -> int | str:
    return k8s.cpu or 4 * job.spec.nproc_per_node


def _resources(job: Job, k8s: K8s) -> dict[str, Any]:
    """Equal requests and limits: the Guaranteed QoS class, which is evicted last and does not share its CPU time."""
    processes = job.spec.nproc_per_node
    wanted = {"cpu": _cpu(job, k8s), "memory": k8s.memory or f"{32 * processes}Gi", **k8s.resources}
    if job.cluster.device == "gpu":
        wanted[k8s.gpu_resource] = processes
    quantities = {name: str(quantity) for name, quantity in wanted.items()}
    return {"requests": quantities, "limits": quantities}


def _container_security(k8s: K8s) -> dict[str, Any]:
    kept = k8s.security_context.add_capabilities
    capabilities = {"drop": ["ALL"]} | ({"add": kept} if kept else {})
    non_root = {"runAsNonRoot": True} if k8s.security_context.run_as_non_root else {}
    return {**non_root, "allowPrivilegeEscalation": False, "capabilities": capabilities}


def _mounts_and_volumes(k8s: K8s, config_name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    size = {"sizeLimit": str(k8s.shm_size)} if k8s.shm_size else {}
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "shm", "mountPath": SHM_DIR},
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": config_name}},
        # NCCL and data loaders need shared memory; a container's default is 64 MiB.
        {"name": "shm", "emptyDir": {"medium": "Memory", **size}},
    ]
    for name, volume in k8s.volumes.items():
        sub_path = {"subPath": volume.sub_path} if volume.sub_path else {}
        read_only = {"readOnly": True} if volume.read_only else {}
        mounts.append({"name": name, "mountPath": volume.mount_path, **sub_path, **read_only})
        volumes.append({"name": name, **_source(volume)})
    return mounts, volumes


def _source(volume: Volume) -> dict[str, Any]:
    if volume.pvc:
        return {"persistentVolumeClaim": {"claimName": volume.pvc}}
    if volume.host_path:
        return {"hostPath": {"path": volume.host_path}}
    if volume.nfs:
        return {"nfs": {"server": volume.nfs.server, "path": volume.nfs.path}}
    return {"emptyDir": {}}


def _pod(job: Job, k8s: K8s) -> dict[str, Any]:
    """The keys of the pod's spec that are set, without containers and volumes."""
    security = k8s.security_context
    user = {
        # Without runAsUser this would block the operator's init container, whose image runs as root.
        "runAsNonRoot": (security.run_as_non_root and security.run_as_user is not None) or None,
        "runAsUser": security.run_as_user,
        "runAsGroup": security.run_as_group,
        "fsGroup": security.fs_group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return _set(
        {
            "serviceAccountName": k8s.service_account,
            "imagePullSecrets": [{"name": name} for name in k8s.image_pull_secrets],
            "priorityClassName": k8s.priority_class,
            "schedulerName": k8s.scheduler_name,
            "nodeSelector": k8s.node_selector,
            "tolerations": [_toleration(one) for one in k8s.tolerations],
            "affinity": _affinity(job, k8s),
            "hostNetwork": k8s.host_network or None,
            # Without this a pod in the host network cannot resolve the first pod's name.
            "dnsPolicy": "ClusterFirstWithHostNet" if k8s.host_network else None,
            "securityContext": _set(user),
            "activeDeadlineSeconds": deadline(job) if k8s.kind == "PyTorchJob" else None,
            "terminationGracePeriodSeconds": _GRACE_SECONDS if k8s.kind == "PyTorchJob" else None,
        }
    )


def _set(values: dict[str, Any]) -> dict[str, Any]:
    """`values` without those that are null or empty."""
    return {key: value for key, value in values.items() if value not in (None, [], {})}


def _toleration(one: Toleration) -> dict[str, Any]:
    operator = "Exists" if one.value is None else "Equal"
    return _set({"key": one.key, "operator": operator, "value": one.value, "effect": one.effect})


def _affinity(job: Job, k8s: K8s) -> dict[str, Any]:
    if k8s.affinity == "none":
        return {}
    mine = {"labelSelector": {"matchLabels": {"alignlaunch/job": job.object_name}}}
    term = {"weight": 100, "podAffinityTerm": {**mine, "topologyKey": "kubernetes.io/hostname"}}
    kind = "podAntiAffinity" if k8s.affinity == "spread" else "podAffinity"
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}


# --- what only a PyTorchJob has ---


def _replicas(job: Job) -> dict[str, int]:
    """{role: number of pods}. An elastic job has no Master: its pods are equal and meet by the c10d rendezvous."""
    if job.elastic:
        return {"Worker": job.nnodes}
    return {"Master": 1} | ({"Worker": job.nnodes - 1} if job.nnodes > 1 else {})


def _restart_policy(job: Job, k8s: K8s) -> str:
    """The restart policy. By default only an elastic job restarts in place: only there can a pod rejoin its peers.

    Otherwise the default is ExitCode, not Never: pods that were evicted have saved a checkpoint, and exit with 143. So
    does the init container of workers that gives up after some minutes of waiting for the first pod, which may still be
    pulling its image. The operator retries these exit codes, but not 1, a failed training.
    """
    default = "OnFailure" if job.elastic else "ExitCode"
    return k8s.restart_policy or default


def _run_policy(job: Job, k8s: K8s) -> dict[str, Any]:
    in_place = _restart_policy(job, k8s) == "OnFailure"
    gang: dict[str, Any] = {}
    if k8s.scheduler_name or k8s.min_available:
        least = job.elastic[0] if job.elastic else job.nnodes
        gang = _set({"minAvailable": k8s.min_available or least, "priorityClass": k8s.priority_class})
    return _set(
        {
            # Pods with OnFailure would keep restarting after the job has failed.
            "cleanPodPolicy": k8s.clean_pod_policy or ("Running" if in_place else "None"),
            "backoffLimit": _first(k8s.backoff_limit, _BACKOFF_LIMIT if in_place else None),
            "activeDeadlineSeconds": deadline(job) if _restart_policy(job, k8s) != "Never" else None,
            "ttlSecondsAfterFinished": k8s.ttl_seconds,
            "schedulingPolicy": gang,
        }
    )


def deadline(job: Job) -> int | None:
    """The job's time limit in seconds; None without a limit.

    The operator checks a PyTorchJob's own deadline only when one of its pods changes. So the pods have the deadline,
    which the kubelet enforces, keeping the pods and their logs. The job has it as well where the operator would
    otherwise replace such a pod by a new one.
    """
    return seconds(job.spec.time) if job.spec.time is not None else None


def _first(*candidates: Any) -> Any:
    return next((value for value in candidates if value is not None), None)


def _elastic_policy(job: Job) -> dict[str, Any] | None:
    if job.elastic is None:
        return None
    least, most = job.elastic
    return {
        "minReplicas": least,
        "maxReplicas": most,
        "rdzvBackend": "c10d",
        "rdzvId": job.object_name,
        "rdzvConf": [{"key": "read_timeout", "value": _RENDEZVOUS_WAIT}],
        # How often torchrun restarts after a failed process. Nodes that join or leave do not count.
        "maxRestarts": job.spec.max_restarts,
    }
