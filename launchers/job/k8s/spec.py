"""Settings for Kubernetes: the keys of `k8s` in a job file and in a cluster profile."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from alignlaunch.train.config import Count

from .types import (
    AbsolutePath,
    DnsLabel,
    DnsName,
    ImageName,
    LabelKey,
    LabelValue,
    Quantity,
    ResourceName,
    Seconds,
    SubPath,
    UserId,
)


class Nfs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A folder that an NFS server exports."""

    server: Annotated[
        DnsName, Meta(description="Host name or address of the NFS server.", examples=["nfs.example.org"])
    ]
    path: Annotated[AbsolutePath, Meta(description="Path that the server exports.")]


class Volume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One volume of each pod and where it is mounted: a pvc, host_path, nfs or empty_dir."""

    mount_path: Annotated[
        AbsolutePath,
        Meta(
            description="Absolute path in the container at which the volume is mounted.", examples=["/shared/project"]
        ),
    ]
    pvc: Annotated[DnsName | None, Meta(description="Name of a PersistentVolumeClaim.", examples=["project"])] = None
    host_path: Annotated[
        AbsolutePath | None, Meta(description="Folder of the node. It must have the same contents on every node.")
    ] = None
    nfs: Annotated[Nfs | None, Meta(description="Server and path of an NFS export.")] = None
    empty_dir: Annotated[bool, Meta(description="Scratch space, which is deleted with the pod.")] = False
    sub_path: Annotated[
        SubPath | None, Meta(description="Folder inside the volume to mount. By default the root of the volume.")
    ] = None
    read_only: Annotated[bool, Meta(description="Mount the volume read-only.")] = False


class SecretKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a variable of `secrets` comes from."""

    name: Annotated[DnsName, Meta(description="Name of the Secret, in the job's namespace.", examples=["hugging-face"])]
    key: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,253}\Z", description="letters, digits, `-`, `_` and `.`")]
        | None,
        Meta(description="Key in the Secret. By default the name of the variable.", examples=["token"]),
    ] = None


class Toleration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A taint of nodes that does not keep the pods away. Without a value, any value of the key."""

    key: Annotated[
        LabelKey | None,
        Meta(description="Key of the taint. By default every taint is tolerated.", examples=["nvidia.com/gpu"]),
    ] = None
    value: Annotated[LabelValue | None, Meta(description="Value of the taint. By default any value.")] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Meta(description="Effect of the taint. By default any effect."),
    ] = None


class SecurityContext(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who the processes are. Always: no privilege escalation, no capabilities but those listed, seccomp's default."""

    run_as_non_root: Annotated[bool, Meta(description="Do not start the container if its user is root.")] = True
    run_as_user: Annotated[
        UserId | None,
        Meta(description="Numeric user id of the processes. By default the image's user.", examples=[1000]),
    ] = None
    run_as_group: Annotated[
        UserId | None,
        Meta(description="Numeric group id of the processes. By default the image's group.", examples=[1000]),
    ] = None
    fs_group: Annotated[
        UserId | None,
        Meta(
            description="Numeric group id that owns the mounted claims, so that a user other than root can write "
            "to them.",
            examples=[1000],
        ),
    ] = None
    add_capabilities: Annotated[
        list[Annotated[str, Meta(pattern=r"^[A-Z][A-Z_]*\Z", description="a capability without CAP_")]],
        Meta(
            description="Linux capabilities of the container; all others are dropped. RDMA needs IPC_LOCK.",
            examples=[["IPC_LOCK"]],
        ),
    ] = []


class K8s(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings for Kubernetes. The job's are merged into the cluster profile's (`patch.merge`)."""

    kind: Annotated[
        Literal["PyTorchJob", "TrainJob"],
        Meta(
            description="Kind of the Kubeflow object that runs the job: PyTorchJob (kubeflow.org/v1) or TrainJob "
            "(trainer.kubeflow.org/v1alpha1)."
        ),
    ] = "PyTorchJob"
    namespace: Annotated[
        DnsLabel | None,
        Meta(
            description="Namespace of all objects. By default that of the kubeconfig's context.", examples=["training"]
        ),
    ] = None
    image: Annotated[
        ImageName | None,
        Meta(
            description="Container image with `torchrun` and `alignlaunch[train]` installed. Required for "
            "Kubernetes; see the Dockerfile."
        ),
    ] = None
    image_pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"] | None,
        Meta(
            description="When the nodes pull the image. By default as Kubernetes does: Always for the tag "
            "`latest`, else IfNotPresent."
        ),
    ] = None
    image_pull_secrets: Annotated[
        list[DnsName],
        Meta(description="Names of the Secrets with the registry's credentials.", examples=[["registry"]]),
    ] = []
    working_dir: Annotated[
        AbsolutePath | None,
        Meta(
            description="Absolute path in the pod of a folder with the same contents as the job file's folder. "
            "Relative paths in the job file start there; required if the job has any.",
            examples=["/shared/project/jobs"],
        ),
    ] = None
    gpu_resource: Annotated[
        ResourceName,
        Meta(description="Name of the resource that stands for a GPU. Each pod requests `nproc_per_node` of it."),
    ] = "nvidia.com/gpu"
    cpu: Annotated[
        Quantity | None,
        Meta(description="CPUs of each pod, as request and limit. By default 4 for each process.", examples=[32]),
    ] = None
    memory: Annotated[
        Quantity | None,
        Meta(
            description="Memory of each pod, as request and limit. By default 32Gi for each process.",
            examples=["256Gi"],
        ),
    ] = None
    resources: Annotated[
        dict[ResourceName, Quantity],
        Meta(description="Further resources of each pod, such as RDMA devices.", examples=[{"rdma/hca": 1}]),
    ] = {}
    shm_size: Annotated[
        Quantity | None,
        Meta(
            description="Size limit of /dev/shm, which counts as memory of the pod. By default only the pod's "
            "memory limits it.",
            examples=["64Gi"],
        ),
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
            description="For each environment variable in the job's `secrets`, the Secret that holds its value.",
            examples=[{"HF_TOKEN": {"name": "hugging-face", "key": "token"}}],
        ),
    ] = {}
    service_account: Annotated[
        DnsName | None, Meta(description="ServiceAccount of the pods. By default the namespace's.")
    ] = None
    node_selector: Annotated[
        dict[LabelKey, LabelValue],
        Meta(
            description="Labels that a node must have to run a pod of the job.",
            examples=[{"gpu.nvidia.com/class": "H100"}],
        ),
    ] = {}
    tolerations: Annotated[
        list[Toleration],
        Meta(description="Taints of nodes that the pods tolerate.", examples=[[{"key": "nvidia.com/gpu"}]]),
    ] = []
    affinity: Annotated[
        Literal["none", "spread", "pack"],
        Meta(
            description="Preferred placement of the pods: `spread` puts each pod on a node of its own, `pack` puts "
            "all pods on few nodes. It is a preference, not a requirement."
        ),
    ] = "none"
    priority_class: Annotated[
        DnsName | None, Meta(description="PriorityClass of the pods. By default the cluster's.", examples=["high"])
    ] = None
    security_context: Annotated[
        SecurityContext, Meta(description="User, groups and capabilities of the containers.")
    ] = SecurityContext()
    host_network: Annotated[
        bool, Meta(description="Use the node's network instead of the pod's own, as some RDMA installations need.")
    ] = False
    queue: Annotated[
        DnsName | None,
        Meta(
            description="Name of the Kueue LocalQueue that admits the job. By default the job is not queued by Kueue.",
            examples=["team-a"],
        ),
    ] = None
    scheduler_name: Annotated[
        DnsName | None,
        Meta(
            description="Scheduler of the pods, such as Volcano for gang scheduling. By default the cluster's.",
            examples=["volcano"],
        ),
    ] = None
    min_available: Annotated[
        Count | None,
        Meta(
            description="Number of pods that a gang scheduler must be able to start together. By default all pods, "
            "and for an elastic job its smallest number of nodes."
        ),
    ] = None
    restart_policy: Annotated[
        Literal["Never", "OnFailure", "ExitCode"] | None,
        Meta(
            description="When the training operator restarts a pod that ended. By default ExitCode (after a signal, "
            "such as an eviction, not after a failed training), and OnFailure for elastic jobs."
        ),
    ] = None
    backoff_limit: Annotated[
        Seconds | None,
        Meta(
            description="Number of restarts after which the job fails. By default 10 with `restart_policy: "
            "OnFailure`, otherwise the training operator's."
        ),
    ] = None
    ttl_seconds: Annotated[
        Seconds | None, Meta(description="Seconds after its end at which the job is deleted. By default it is kept.")
    ] = None
    clean_pod_policy: Annotated[
        Literal["None", "Running", "All"] | None,
        Meta(
            description="Which pods are deleted when the job ends; their logs go with them. By default Running "
            "with `restart_policy: OnFailure`, otherwise None."
        ),
    ] = None
    runtime: Annotated[
        DnsName | None,
        Meta(description="ClusterTrainingRuntime of a TrainJob. By default torch-distributed. Not for a PyTorchJob."),
    ] = None
    owner: Annotated[
        LabelValue | None,
        Meta(description="Value of the label `alignlaunch/owner` on the job and its pods.", examples=["team-a"]),
    ] = None
    labels: Annotated[
        dict[LabelKey, LabelValue],
        Meta(description="Further labels of the job and its pods.", examples=[{"team": "a"}]),
    ] = {}
    annotations: Annotated[
        dict[LabelKey, str],
        Meta(description="Annotations of the job and its pods.", examples=[{"sidecar.istio.io/inject": "false"}]),
    ] = {}
    pod_patch: Annotated[
        dict[str, Any],
        Meta(
            description="Patch of every pod template: maps are merged key by key, null removes a key, lists of "
            "items with a `name` are merged by that name, and other lists are replaced.",
            examples=[{"spec": {"terminationGracePeriodSeconds": 120}}],
        ),
    ] = {}
    patch: Annotated[
        dict[str, Any],
        Meta(
            description="Patch of the whole manifest, applied last, with the rules of `pod_patch`.",
            examples=[{"spec": {"runPolicy": {"suspend": True}}}],
        ),
    ] = {}
