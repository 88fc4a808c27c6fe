"""Runs of two pods on the tests' Kubernetes: the stand-in, or a real cluster where ALIGNLAUNCH_KUBECONFIG names it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tests.k8s.cli import User
from tests.k8s.namespaces import REAL, new_namespace
from tests.k8s.standin.objects.resources import PODS
from tests.k8s.standin.standin import StandIn

from .laboratory import Laboratory

_CLAIM = "data"


class KubernetesLaboratory(Laboratory):
    """A namespace with a volume that all pods see."""

    def __init__(self, user: User) -> None:
        self.member, self.cluster = user, user.cluster
        self.version = "a Kubernetes cluster" if REAL else "the tests' Kubernetes stand-in"
        self.outside = {
            "pod lost": lambda handle: self._lose(handle, -1),
            "first pod lost": lambda handle: self._lose(handle, 0),
            "pod deleted": lambda handle: self.cluster.delete("Pod", self._pods(handle)[-1]),
            "pod evicted": lambda handle: self.cluster.faults.evict(self._pods(handle)[-1]),
            "API server gone for 20 s": lambda _: self._without(self.cluster.faults.api_server_down()),
            "operator gone for 20 s": lambda _: self._without(self.cluster.faults.operator_down()),
            "job deleted": lambda handle: self.cluster.delete("PyTorchJob", _name(handle)),
            "ConfigMap deleted": self._delete_config_map,
        }
        super().__init__(user)
        self.cluster.fill_claim(_CLAIM, self.folder)

    def start(self, name: str) -> str:
        return self.member.submit(f"{name}.yaml")

    def read(self, path: str) -> str:
        try:
            return self.cluster.read_claim(_CLAIM, path).decode()
        except AssertionError as error:  # kubectl cannot read it
            raise OSError(str(error)) from error

    def has_result(self, name: str) -> bool:
        try:
            return bool(self.read(f"{self.output(name)}/provenance.json"))
        except OSError:
            return False

    def mend(self) -> None:
        done = ("Succeeded", "Failed")
        self.cluster.wait(lambda: all(pod["status"]["phase"] in done for pod in self.cluster.pods().values()))

    def _pods(self, handle: str) -> list[str]:
        """The names of a run's pods, the first node's first."""
        return sorted(name for name in self.cluster.pods() if name.startswith(f"{_name(handle)}-"))

    def _lose(self, handle: str, index: int) -> None:
        """As with its node: without a moment to save."""
        self.cluster.request("DELETE", PODS, self._pods(handle)[index], {"gracePeriodSeconds": 0})

    def _without(self, something: Any) -> None:
        with something:
            time.sleep(20)

    def _delete_config_map(self, handle: str) -> None:
        for name in self.cluster.config_maps():
            if name.startswith(_name(handle)):
                self.cluster.delete("ConfigMap", name)


def _name(handle: str) -> str:
    return handle.rpartition("/")[2]


@contextmanager
def laboratory() -> Iterator[KubernetesLaboratory]:
    """A new namespace."""
    with tempfile.TemporaryDirectory(prefix="alignlaunch-faults-") as scratch:
        folder = Path(scratch) / "user"
        folder.mkdir()
        running = nullcontext(None) if REAL else StandIn(Path(scratch) / "k8s")
        with running as stand_in, new_namespace(stand_in, Path(scratch)) as cluster:
            yield KubernetesLaboratory(User(cluster, folder))
