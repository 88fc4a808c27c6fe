"""The kubelets of all nodes, and the names by which pods reach each other."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterable
from pathlib import Path

from tests.k8s.standin.api.registry import Registry
from tests.k8s.standin.api.storage import Change, Key, key_of
from tests.k8s.standin.controllers.controller import Controller
from tests.k8s.standin.controllers.scheduler import ENDED
from tests.k8s.standin.objects.resources import PODS, SERVICES, Obj
from tests.support.network import PodNetwork

from .images import Image, pullable
from .podworker import PodWorker


class Kubelet(Controller):
    """Starts a worker for every pod that got a node. `folder` is for what pods leave behind, `claims` for volumes."""

    name = "kubelet"

    def __init__(self, registry: Registry, folder: Path) -> None:
        super().__init__(registry)
        self.folder = folder
        self.claims = folder / "claims"
        self.images: dict[str, Image] = pullable()
        self._network = PodNetwork()
        self.workers: dict[str, PodWorker] = {}
        self._threads: dict[str, threading.Thread] = {}

    def start(self) -> None:
        self._network.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        for worker in list(self.workers.values()):
            worker.stop()
        for thread in list(self._threads.values()):
            thread.join()
        self._network.stop()

    def concerned(self, change: Change) -> Iterable[Key]:
        return [key_of(change.obj)] if change.resource is PODS and change.obj["spec"].get("nodeName") else []

    def reconcile(self, namespace: str, name: str) -> float | None:
        pod = self.store.get(PODS, namespace, name)
        if pod is None or not pod["spec"].get("nodeName") or pod["status"]["phase"] in ENDED:
            return None
        uid = pod["metadata"]["uid"]
        if uid not in self._threads:
            worker = PodWorker(
                self.registry, pod, network=self._network, images=self.images, folder=self.folder, claims=self.claims
            )
            self.workers[uid] = worker
            self._threads[uid] = threading.Thread(target=self._run, args=(worker,), name=f"pod-{name}", daemon=True)
            self._threads[uid].start()
        return None

    def entrance(self, uid: str, container: str) -> int | None:
        """The number of the process 1 of a pod's container; None: it does not run."""
        worker = self.workers.get(uid)
        return worker.entrance(container) if worker else None

    def evict(self, namespace: str, name: str, message: str) -> None:
        self.workers[self.registry.get(PODS, namespace, name)["metadata"]["uid"]].evict(message)

    def _run(self, worker: PodWorker) -> None:
        try:
            worker.run()
        except Exception:  # noqa: BLE001 (told to the tests, which fail)
            self.crashes.append(traceback.format_exc())
        finally:
            del self.workers[worker.uid]


class Dns(Controller):
    """Keeps the hosts file of every pod: a headless service is the addresses of its ready pods."""

    name = "dns"

    def __init__(self, registry: Registry, kubelet: Kubelet) -> None:
        super().__init__(registry)
        self._kubelet = kubelet

    def concerned(self, change: Change) -> Iterable[Key]:
        return [(key_of(change.obj)[0], "")] if change.resource in (PODS, SERVICES) else []

    def reconcile(self, namespace: str, name: str) -> float | None:
        pods = self.store.all(PODS, namespace)
        lines = [line for service in self.store.all(SERVICES, namespace) for line in _lines(service, pods)]
        for pod in pods:
            worker = self._kubelet.workers.get(pod["metadata"]["uid"])
            if worker is not None and worker.hosts.exists():
                text = worker.own_hosts + "".join(lines)
                if worker.hosts.read_text() != text:
                    worker.hosts.write_text(text)  # in place: it is mounted
        return None


def _lines(service: Obj, pods: list[Obj]) -> list[str]:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    spec = service.get("spec") or {}
    lines = []
    for pod in pods:
        labels, address = pod["metadata"].get("labels") or {}, pod["status"].get("podIP")
        chosen = spec.get("selector") and all(labels.get(key) == value for key, value in spec["selector"].items())
        if chosen and address and (_is_ready(pod) or spec.get("publishNotReadyAddresses")):
            hosts = [name]
            if pod["spec"].get("subdomain") == name:
                hosts.append(f"{pod['spec']['hostname']}.{name}")
            # The full name first: it is what a cluster's DNS answers, whatever was asked for.
            names = [f"{host}{suffix}" for host in hosts for suffix in reversed(_suffixes(namespace))]
            lines.append(f"{address}\t{' '.join(names)}\n")
    return lines


def _suffixes(namespace: str) -> list[str]:
    return ["", f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.cluster.local"]


def _is_ready(pod: Obj) -> bool:
    conditions = pod["status"].get("conditions") or []
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")
