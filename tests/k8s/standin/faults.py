"""What no real cluster can be asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .injection import Injection
from .objects.resources import Resource
from .standin import StandIn


class ClusterFaults:
    """What can go wrong with a cluster, one method each."""

    def __init__(self, stand_in: StandIn, namespace: str) -> None:
        self._stand_in = stand_in
        self._namespace = namespace

    @contextlib.contextmanager
    def operator_down(self) -> Iterator[None]:
        """The training operators do not run: their webhooks fail closed, and no job is looked at."""
        operators = self._stand_in.operators
        self._stand_in.registry.webhook_up = False
        for operator in operators:
            operator.pause()
        try:
            yield
        finally:
            self._stand_in.registry.webhook_up = True
            for operator in operators:
                operator.resume()

    @contextlib.contextmanager
    def api_server_down(self) -> Iterator[None]:
        """Connections are refused, and open ones are cut."""
        self._stand_in.server.stop()
        try:
            yield
        finally:
            self._stand_in.server.start()

    @contextlib.contextmanager
    def crd_missing(self, resource: Resource) -> Iterator[None]:
        """The kind is not installed."""
        registry = self._stand_in.registry
        registry.served -= {resource}
        try:
            yield
        finally:
            registry.served |= {resource}

    @contextlib.contextmanager
    def image_missing(self, name: str) -> Iterator[None]:
        """No registry has the image any more, as `alpine:3.10`, which workers wait in, where there is no way out."""
        image = self._stand_in.kubelet.images.pop(name)
        try:
            yield
        finally:
            self._stand_in.kubelet.images[name] = image

    def inject(self, injection: Injection) -> None:
        """Answer some requests with an error, until `heal`."""
        self._stand_in.server.injections.append(injection)

    def heal(self) -> None:
        self._stand_in.server.injections.clear()

    def drop_watches(self) -> None:
        """Cut every watch and every followed log."""
        self._stand_in.server.drop_watches()

    def forget_history(self) -> None:
        """Every resourceVersion and continue token handed out so far is too old: 410."""
        self._stand_in.store.forget()

    def evict(self, pod: str, message: str = "The node was low on resource: ephemeral-storage. ") -> None:
        """The kubelet kills a pod: phase Failed, reason Evicted."""
        self._stand_in.kubelet.evict(self._namespace, pod, message)
