"""The whole stand-in: an API server, the controllers of a cluster with the training operators, nodes with kubelets.

with StandIn(tmp_path) as cluster:
    config.load_kube_config(str(cluster.kubeconfig))
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from .api.apiserver import ApiServer
from .api.rbac import Authorizer
from .api.registry import Registry
from .api.storage import Store
from .api.webhooks import RUNTIME
from .controllers.controller import Controller
from .controllers.garbage import GarbageCollector
from .controllers.kueue import Kueue
from .controllers.scheduler import Scheduler
from .controllers.trainer import Trainer
from .controllers.training_operator import TrainingOperator
from .kubeconfig import make_certificate, write_kubeconfig
from .node.kubelet import Dns, Kubelet
from .objects.resources import CRDS, NAMESPACES, NODES, RESOURCES, RUNTIMES, Resource

BINARIES = ("unshare", "nsenter", "setpriv", "ip", "mount", "chroot", "hostname", "openssl")
# What pods are made of, tried where nobody sees it.
PROBE = """
ip link add probe type bridge
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt
"""
NODE = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "4", "rdma/hca": "8", "pods": "110"}


def obstacle() -> str:
    """Why the stand-in cannot run on this machine; empty where it can."""
    missing = [name for name in BINARIES if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "needs root: its pods are namespaces"
    unshare = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--uts", "--fork"]
    tried = subprocess.run([*unshare, "sh", "-ec", PROBE], capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


class StandIn:
    """Two nodes of four GPUs. Everything lies under `folder`; nothing outlives this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.store = Store()
        self.registry = Registry(self.store)
        self.authorizer = Authorizer(self.store)
        logs = folder / "kubelet" / "logs"
        self.kubelet = Kubelet(self.registry, folder / "kubelet")
        tls = make_certificate(folder)
        self.server = ApiServer(self.registry, self.authorizer, logs, tls, self.kubelet.entrance)
        self.operator = TrainingOperator(self.registry)
        self.trainer = Trainer(self.registry)
        self._controllers: list[Controller] = [
            GarbageCollector(self.registry),
            Scheduler(self.registry),
            self.operator,
            self.trainer,
            Kueue(self.registry),
            self.kubelet,
            Dns(self.registry, self.kubelet),
        ]

    def __enter__(self) -> Self:
        for name in ("default", "kube-system", "kubeflow"):
            self.registry.create(NAMESPACES, "", {"metadata": {"name": name}})
        for name in ("node-1", "node-2"):
            self.add_node(name, NODE)
        for resource in RESOURCES:
            if resource.custom:
                self.registry.create(CRDS, "", _crd(resource))
        self.registry.create(RUNTIMES, "", {"metadata": {"name": RUNTIME}})
        for controller in self._controllers:
            controller.start()
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        for controller in self._controllers:
            controller.stop()

    @property
    def operators(self) -> list[Controller]:
        """Those whose webhooks fail closed when they are down."""
        return [self.operator, self.trainer]

    @property
    def crashes(self) -> list[str]:
        """Tracebacks of controllers: empty unless the stand-in itself is at fault."""
        return [crash for controller in self._controllers for crash in controller.crashes]

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.kubeconfig_of(self.authorizer.admin_token, "admin")

    def kubeconfig_of(self, token: str, name: str) -> Path:
        path, certificate = self.folder / f"{name}.kubeconfig", self.folder / "tls.crt"
        return write_kubeconfig(path, port=self.server.port, certificate=certificate, token=token)

    def add_node(self, name: str, capacity: dict[str, str]) -> None:
        node = {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {}}
        self.registry.create(NODES, "", node)
        conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
        status = {"capacity": capacity, "allocatable": capacity, "conditions": conditions}
        self.registry.change(NODES, "", name, lambda one: one.update(status=status), subresource="status")


def _crd(resource: Resource) -> dict[str, object]:
    names = {"plural": resource.plural, "singular": resource.kind.lower(), "kind": resource.kind}
    versions = [{"name": resource.version, "served": True, "storage": True}]
    scope = "Namespaced" if resource.namespaced else "Cluster"
    spec = {"group": resource.group, "names": names, "scope": scope, "versions": versions}
    return {"metadata": {"name": resource.qualified}, "spec": spec}
