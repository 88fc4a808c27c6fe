"""What Kubernetes is asked for: the keys of `k8s` in a job file and in a cluster profile."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from alignlaunch.train.config import Count

DnsLabel = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", description="lower-case letters, digits and `-`"),
]
DnsName = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z", description="lower-case letters, digits, `-` and `.`"),
]
ImageName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,499}\Z",
        description="an image as a registry names it: REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST",
        examples=["registry.example.org/alignlaunch@sha256:..."],
    ),
]
ResourceName = Annotated[
    str,
    Meta(
        pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z",
        description="a resource as nodes offer it, VENDOR/NAME",
        examples=["nvidia.com/gpu"],
    ),
]
Quantity = (
    Annotated[int, Meta(ge=1)]
    | Annotated[
        str,
        Meta(
            pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?\Z",
            description="a quantity of Kubernetes: 8, 500m, 64Gi",
        ),
    ]
)
LabelKey = Annotated[
    str,
    Meta(
        pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z",
        description="a key of a label or annotation, [PREFIX/]NAME",
    ),
]
LabelValue = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?\Z",
        description="at most 63 letters, digits, `-`, `_` and `.`; begins and ends with a letter or digit",
    ),
]
AbsolutePath = Annotated[
    str, Meta(pattern=r"^/[^:]*\Z", description="an absolute path without `:`", examples=["/shared/project"])
]
SubPath = Annotated[
    str, Meta(pattern=r"^(?!/)(?!(.*/)?\.\.(/|\Z)).+\Z", description="a relative path without `..`", examples=["align"])
]
Seconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]
UserId = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Nfs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A folder that an NFS server exports."""

    server: Annotated[DnsName, Meta(description="Name or address of the server.", examples=["nfs.example.org"])]
    path: AbsolutePath


class Volume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One volume of each pod and where it is mounted: a pvc, host_path, nfs or empty_dir."""

    mount_path: Annotated[AbsolutePath, Meta(description="Where the container sees it.", examples=["/shared/project"])]
    pvc: Annotated[DnsName | None, Meta(description="PersistentVolumeClaim.", examples=["project"])] = None
    host_path: Annotated[AbsolutePath | None, Meta(description="Folder of the node, the same on every node.")] = None
    nfs: Annotated[Nfs | None, Meta(description="Server and path of an NFS export.")] = None
    empty_dir: Annotated[bool, Meta(description="Scratch space of the pod, gone when the pod goes.")] = False
    sub_path: Annotated[SubPath | None, Meta(description="Folder of the volume to mount instead of its root.")] = None
    read_only: Annotated[bool, Meta(description="Mount it read-only.")] = False


class SecretKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a variable of `secrets` comes from."""

    name: Annotated[DnsName, Meta(description="Secret in the job's namespace.", examples=["hugging-face"])]
    key: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,253}\Z", description="letters, digits, `-`, `_` and `.`")]
        | None,
        Meta(description="Key in the Secret; else the variable's name.", examples=["token"]),
    ] = None


class Toleration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A taint of nodes that does not keep the pods away. Without a value, any value of the key."""

    key: Annotated[LabelKey | None, Meta(description="Taint; none: every taint.", examples=["nvidia.com/gpu"])] = None
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class SecurityContext(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who the processes are. Always: no privilege escalation, no capabilities but those listed, seccomp's default."""

    run_as_non_root: Annotated[bool, Meta(description="Refuse to train as root.")] = True
    run_as_user: Annotated[UserId | None, Meta(description="User id; else the image's.", examples=[1000])] = None
    run_as_group: Annotated[UserId | None, Meta(description="Group id; else the image's.", examples=[1000])] = None
    fs_group: Annotated[
        UserId | None, Meta(description="Group that owns claims, so that the user may write there.", examples=[1000])
    ] = None
    add_capabilities: Annotated[
        list[Annotated[str, Meta(pattern=r"^[A-Z][A-Z_]*\Z", description="a capability without CAP_")]],
        Meta(description="Capabilities to keep; RDMA needs IPC_LOCK.", examples=[["IPC_LOCK"]]),
    ] = []


class K8s(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the cluster is asked for. The job's keys lie over the cluster profile's (`patch.over`)."""

    kind: Annotated[
        Literal["PyTorchJob", "TrainJob"],
        Meta(description="PyTorchJob (kubeflow.org/v1) or TrainJob (trainer.kubeflow.org/v1alpha1)."),
    ] = "PyTorchJob"
    namespace: Annotated[
        DnsLabel | None, Meta(description="Namespace; else that of the kubeconfig's context.", examples=["training"])
    ] = None
    image: Annotated[ImageName | None, Meta(description="Image with `torchrun` and `alignlaunch[train]` in it.")] = None
    image_pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"] | None, Meta(description="When to pull; else the cluster's default.")
    ] = None
    image_pull_secrets: Annotated[
        list[DnsName], Meta(description="Secrets with the registry's credentials.", examples=[["registry"]])
    ] = []
    working_dir: Annotated[
        AbsolutePath | None,
        Meta(
            description="Folder in the pod that holds what the job file's folder holds: relative paths start there.",
            examples=["/shared/project/jobs"],
        ),
    ] = None
    gpu_resource: Annotated[ResourceName, Meta(description="Resource that is a GPU; nproc_per_node of it a pod.")] = (
        "nvidia.com/gpu"
    )
    cpu: Annotated[Quantity | None, Meta(description="CPUs a pod; default: 4 a process.", examples=[32])] = None
    memory: Annotated[
        Quantity | None, Meta(description="Memory a pod; default: 32Gi a process.", examples=["256Gi"])
    ] = None
    resources: Annotated[
        dict[ResourceName, Quantity],
        Meta(description="Further resources a pod, such as RDMA devices.", examples=[{"rdma/hca": 1}]),
    ] = {}
    shm_size: Annotated[
        Quantity | None, Meta(description="Limit of /dev/shm, which is memory; default: the pod's.", examples=["64Gi"])
    ] = None
    volumes: Annotated[
        dict[DnsLabel, Volume],
        Meta(
            description="Volumes of each pod, by name.",
            examples=[{"project": {"pvc": "project", "mount_path": "/shared/project"}}],
        ),
    ] = {}
    secrets: Annotated[
        dict[str, SecretKey],
        Meta(
            description="For variables of the job's `secrets`: the Secret each one comes from.",
            examples=[{"HF_TOKEN": {"name": "hugging-face", "key": "token"}}],
        ),
    ] = {}
    service_account: Annotated[DnsName | None, Meta(description="ServiceAccount of the pods.")] = None
    node_selector: Annotated[
        dict[LabelKey, LabelValue],
        Meta(description="Labels that a node must have.", examples=[{"gpu.nvidia.com/class": "H100"}]),
    ] = {}
    tolerations: Annotated[
        list[Toleration], Meta(description="Taints to tolerate.", examples=[[{"key": "nvidia.com/gpu"}]])
    ] = []
    affinity: Annotated[
        Literal["none", "spread", "pack"], Meta(description="Prefer a node for each pod, or few nodes for all.")
    ] = "none"
    priority_class: Annotated[DnsName | None, Meta(description="PriorityClass.", examples=["high"])] = None
    security_context: SecurityContext = SecurityContext()
    host_network: Annotated[bool, Meta(description="The node's own network, as some RDMA set-ups need.")] = False
    queue: Annotated[DnsName | None, Meta(description="Kueue's LocalQueue.", examples=["team-a"])] = None
    scheduler_name: Annotated[DnsName | None, Meta(description="Scheduler of the pods.", examples=["volcano"])] = None
    min_available: Annotated[
        Count | None, Meta(description="Pods that a gang scheduler starts together; default: all (elastic: the least).")
    ] = None
    restart_policy: Annotated[
        Literal["Never", "OnFailure", "ExitCode"] | None,
        Meta(description="Default: Never on one node, ExitCode on more, OnFailure for elastic jobs."),
    ] = None
    backoff_limit: Annotated[
        Seconds | None, Meta(description="Restarts in place before the job fails; default: 10 with OnFailure.")
    ] = None
    ttl_seconds: Annotated[Seconds | None, Meta(description="Delete the job so long after its end.")] = None
    clean_pod_policy: Annotated[
        Literal["None", "Running", "All"] | None,
        Meta(
            description="Pods to delete at the end; default: Running with OnFailure, else None, which keeps the logs."
        ),
    ] = None
    runtime: Annotated[DnsName | None, Meta(description="TrainJob: its runtime; default: torch-distributed.")] = None
    owner: Annotated[LabelValue | None, Meta(description="Label `alignlaunch/owner`.", examples=["team-a"])] = None
    labels: Annotated[
        dict[LabelKey, LabelValue], Meta(description="Further labels of job and pods.", examples=[{"team": "a"}])
    ] = {}
    annotations: Annotated[
        dict[LabelKey, str],
        Meta(description="Annotations of job and pods.", examples=[{"sidecar.istio.io/inject": "false"}]),
    ] = {}
    pod_patch: Annotated[
        dict[str, Any],
        Meta(
            description="Laid over every pod template: maps merge, null removes, lists of named things merge by name.",
            examples=[{"spec": {"terminationGracePeriodSeconds": 120}}],
        ),
    ] = {}
    patch: Annotated[
        dict[str, Any],
        Meta(
            description="The same over the whole manifest, last.", examples=[{"spec": {"runPolicy": {"suspend": True}}}]
        ),
    ] = {}
