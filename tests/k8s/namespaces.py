"""Namespaces for tests: of the stand-in, or of a real cluster where ALIGNLAUNCH_KUBECONFIG names its kubeconfig."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config

from .cluster import Cluster
from .standin.faults import ClusterFaults
from .standin.kubeconfig import in_namespace
from .standin.node.images import TRAINING_IMAGE
from .standin.objects.resources import Obj, resource_of
from .standin.standin import StandIn

#: Kubeconfig of a real cluster, which needs an image with alignlaunch in it: ALIGNLAUNCH_K8S_IMAGE.
REAL = os.environ.get("ALIGNLAUNCH_KUBECONFIG", "")


class StandInCluster(Cluster):
    """A namespace of the stand-in."""

    def __init__(self, stand_in: StandIn, kubeconfig: Path, namespace: str) -> None:
        super().__init__(kubeconfig, namespace, TRAINING_IMAGE)
        self._stand_in = stand_in
        self._faults = ClusterFaults(stand_in, namespace)

    @property
    def faults(self) -> ClusterFaults:
        return self._faults

    def create_all(self, objects: Iterable[Obj]) -> None:
        for obj in objects:  # without HTTP, which takes the better part of a minute for thousands
            resource = resource_of(obj["kind"], obj["apiVersion"])
            assert resource is not None
            self._stand_in.registry.create(resource, self.namespace, obj)

    @contextlib.contextmanager
    def asked(self) -> Iterator[list[str]]:
        every, found = self._stand_in.server.asked, list[str]()
        before = len(every)
        try:
            yield found
        finally:
            found += [f"{one.verb} {one.resource}" for one in every[before:] if one.namespace == self.namespace]

    def _has_default_storage(self) -> bool:
        return True

    def fill_claim(self, name: str, source: Path) -> None:
        self._make_claim(name)
        folder = self._stand_in.kubelet.claims / self.namespace / name
        shutil.copytree(source, folder)
        subprocess.run(["chmod", "-R", "a+rwX", str(folder)], check=True)

    def read_claim(self, name: str, path: str) -> bytes:
        return (self._stand_in.kubelet.claims / self.namespace / name / path).read_bytes()


@contextlib.contextmanager
def new_namespace(stand_in: StandIn | None, folder: Path) -> Iterator[Cluster]:
    """A namespace of the stand-in, else of the real cluster, gone afterwards. folder: for its kubeconfig."""
    admin = stand_in.kubeconfig if stand_in else Path(REAL)
    load: Any = config.new_client_from_config
    api: Any = client.CoreV1Api(load(str(admin)))
    namespace = f"alignlaunch-{secrets.token_hex(4)}"
    api.create_namespace({"metadata": {"name": namespace}})
    kubeconfig = in_namespace(admin, namespace, folder)
    if stand_in is None:
        image = os.environ.get("ALIGNLAUNCH_K8S_IMAGE")
        assert image, "ALIGNLAUNCH_KUBECONFIG is set: ALIGNLAUNCH_K8S_IMAGE must name an image with alignlaunch in it"
        yield Cluster(kubeconfig, namespace, image)
    else:
        yield StandInCluster(stand_in, kubeconfig, namespace)
    api.delete_namespace(namespace)
