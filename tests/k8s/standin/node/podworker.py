"""One pod on its node, from its sandbox to its end, in one thread."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.k8s.standin.api.registry import Registry, now
from tests.k8s.standin.api.storage import key_of
from tests.k8s.standin.controllers.events import record
from tests.k8s.standin.objects.resources import PODS, Obj
from tests.k8s.standin.objects.status import ApiError
from tests.support.network import PodNetwork, PodSandbox

from . import podstatus
from .container import Container
from .images import Image
from .volumes import MountError, Volumes

INTERVAL_S = 0.02
MOUNT_RETRY_S = 0.5


class _DeletedError(Exception):
    """Somebody deleted the pod."""


class _StoppedError(Exception):
    """The node stops."""


class _EvictedError(Exception):
    """The node wants its room back."""


class _DeadlineError(Exception):
    """The pod has been active for longer than it may be."""


class PodWorker:
    """`folder` holds the pod's volumes, its hosts file and the roots of its containers."""

    def __init__(
        self, registry: Registry, pod: Obj, *, network: PodNetwork, images: dict[str, Image], folder: Path, claims: Path
    ) -> None:
        self.uid = pod["metadata"]["uid"]
        self.hosts = folder / "pods" / self.uid / "hosts"
        self._registry = registry
        self._pod = pod
        self._network = network
        self._images = images
        self._folder = folder / "pods" / self.uid
        self._logs = folder / "logs"
        self._claims = claims
        self._address = ""
        self._started = now()
        self._begun = time.monotonic()
        self._init = [self._container(spec) for spec in pod["spec"].get("initContainers") or []]
        self._main = [self._container(spec) for spec in pod["spec"]["containers"]]
        self._stopping = threading.Event()
        self._eviction = ""
        self._verdict: Obj = {}

    def run(self) -> None:
        """Until the pod has ended or is gone. Containers live only as long as the thread that calls this."""
        self._folder.mkdir(parents=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        hostname = self._pod["spec"].get("hostname") or key_of(self._pod)[1]
        sandbox = self._network.add_pod(hostname[:63])
        self._address = sandbox.address
        self.hosts.write_text(self.own_hosts)
        try:
            self._live(sandbox)
        except _DeletedError:
            self._terminate(sandbox)
        except _EvictedError as why:
            self._kill(sandbox)
            self._verdict = {"phase": "Failed", "reason": "Evicted", "message": str(why)}
            self._tell("Evicted", str(why), True)
            self._report()
        except _DeadlineError as why:
            self._tell("DeadlineExceeded", str(why), False)
            self._stop_containers(self._grace_of_spec)
            self._kill(sandbox)
            self._verdict = {"phase": "Failed", "reason": "DeadlineExceeded", "message": str(why)}
            self._report()
        except _StoppedError:
            pass
        finally:
            self._kill(sandbox)

    def stop(self) -> None:
        """Kill everything, as when the node loses power: nobody tells the API server."""
        self._stopping.set()

    def entrance(self, container: str) -> int | None:
        """The number of the process 1 of a container; None: it does not run."""
        return next((one.entrance for one in [*self._init, *self._main] if one.name == container), None)

    def evict(self, message: str) -> None:
        """Kill everything, and say so in the pod's status."""
        self._eviction = message

    @property
    def own_hosts(self) -> str:
        """The lines of /etc/hosts that every pod has."""
        names = [self._pod["spec"].get("hostname") or key_of(self._pod)[1]]
        return f"127.0.0.1\tlocalhost\n{self._address}\t{' '.join(names)}\n"

    # -- life ---------------------------------------------------------------------------------------------------------

    def _live(self, sandbox: PodSandbox) -> None:
        volumes = Volumes(self._registry.store, self._pod, self._folder / "volumes", self._claims)
        self._set_up(volumes)
        for container in self._init:
            self._run([container], volumes, sandbox)
            if container.exit_code:
                self._report()
                return
        self._run(self._main, volumes, sandbox)

    def _set_up(self, volumes: Volumes) -> None:
        waiting = {"waiting": {"reason": "PodInitializing"}}
        for container in self._main if self._init else []:
            container.state = waiting
        while True:
            try:
                volumes.set_up()
            except MountError as error:
                self._tell("FailedMount", str(error), True)
                self._pause(MOUNT_RETRY_S)
            else:
                return

    def _run(self, containers: Sequence[Container], volumes: Volumes, sandbox: PodSandbox) -> None:
        while not all(container.done for container in containers):
            for container in containers:
                container.step(volumes, sandbox)
            self._pause(INTERVAL_S)
        self._report()

    def _pause(self, seconds: float) -> None:
        """Report what is new, and look whether the pod is still wanted."""
        self._report()
        deadline = time.monotonic() + seconds
        while True:
            if self._stopping.is_set():
                raise _StoppedError
            if self._eviction:
                raise _EvictedError(self._eviction)
            current = self._current()
            if current is None or current["metadata"].get("deletionTimestamp"):
                raise _DeletedError
            limit = current["spec"].get("activeDeadlineSeconds")
            if limit is not None and time.monotonic() - self._begun >= limit:
                raise _DeadlineError("Pod was active on the node longer than the specified deadline")
            if time.monotonic() >= deadline:
                return
            time.sleep(INTERVAL_S)

    def _terminate(self, sandbox: PodSandbox) -> None:
        """TERM to every process 1, KILL when the grace period is over, and then the pod is gone."""
        self._stop_containers(self._grace_of_deletion)
        self._kill(sandbox)
        self._report()
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        with contextlib.suppress(ApiError):  # it is gone already
            self._registry.delete(PODS, *key_of(self._pod), options)

    def _stop_containers(self, grace: Callable[[], float]) -> None:
        """TERM, and then as much time as they have."""
        for container in filter(lambda one: one.running, [*self._init, *self._main]):
            container.give_up()
            self._tell("Killing", f"Stopping container {container.name}", False)
            container.send(signal.SIGTERM)
        begun = time.monotonic()
        while any(one.running for one in [*self._init, *self._main]) and not self._stopping.is_set():
            if time.monotonic() - begun >= grace():
                return
            self._reap()
            time.sleep(INTERVAL_S)

    def _grace_of_deletion(self) -> float:
        current = self._current()
        return float(current["metadata"].get("deletionGracePeriodSeconds", 0)) if current else 0.0

    def _grace_of_spec(self) -> float:
        return float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _kill(self, sandbox: PodSandbox) -> None:
        while any(one.running for one in [*self._init, *self._main]):
            for container in [*self._init, *self._main]:
                container.send(signal.SIGKILL)
            self._reap()
            time.sleep(0.002)
        sandbox.stop()

    def _reap(self) -> None:
        for container in [*self._init, *self._main]:
            if container.running:
                container.notice_end()

    # -- what others see ----------------------------------------------------------------------------------------------

    def _current(self) -> Obj | None:
        """The pod as it is stored now; None once it is gone or another one of its name is there."""
        found = self._registry.store.get(PODS, *key_of(self._pod))
        return found if found is not None and found["metadata"]["uid"] == self.uid else None

    def _report(self) -> None:
        """Write the status if it has changed."""
        with self._registry.store.lock:
            current = self._current()
            if current is None:
                return
            status = podstatus.status(current, self._init, self._main, self._address, self._started) | self._verdict
            if status != current["status"]:
                self._registry.change(
                    PODS, *key_of(self._pod), lambda pod: pod.update(status=status), subresource="status"
                )

    def _tell(self, reason: str, message: str, warning: bool) -> None:
        record(self._registry, self._pod, reason, message, component="kubelet", warning=warning)

    def _container(self, spec: Obj) -> Container:
        return Container(
            self._registry.store,
            self._pod,
            spec,
            images=self._images,
            logs=self._logs,
            folder=self._folder / "containers",
            tell=self._tell,
        )
