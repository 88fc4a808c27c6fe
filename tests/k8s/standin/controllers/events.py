"""Events, as recorders write them: the same thing happening again raises a count."""

from __future__ import annotations

import hashlib

from tests.k8s.standin.api.registry import Registry, now
from tests.k8s.standin.objects.resources import EVENTS, Obj
from tests.k8s.standin.objects.status import ApiError


def record(registry: Registry, obj: Obj, reason: str, message: str, *, component: str, warning: bool = False) -> None:
    """Say that something happened to an object."""
    metadata, kind = obj["metadata"], "Warning" if warning else "Normal"
    seed = "\0".join([metadata["uid"], kind, reason, message, component])
    name = f"{metadata['name']}.{hashlib.sha256(seed.encode()).hexdigest()[:16]}"
    namespace = metadata.get("namespace", "default")

    def again(event: Obj) -> None:
        event.update(count=event["count"] + 1, lastTimestamp=now())

    involved = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "namespace": namespace}
    involved |= {key: metadata[key] for key in ("name", "uid", "resourceVersion") if key in metadata}
    event = {
        "metadata": {"name": name},
        "involvedObject": involved,
        "reason": reason,
        "message": message[:1024],
        "type": kind,
        "count": 1,
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
    }
    with registry.store.lock:
        try:
            if registry.store.get(EVENTS, namespace, name):
                registry.change(EVENTS, namespace, name, again)
            else:
                registry.create(EVENTS, namespace, event)
        except ApiError as refusal:
            if refusal.code not in (403, 404):  # the namespace is on its way out
                raise
