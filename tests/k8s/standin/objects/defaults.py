"""What the API server fills in: the defaults of pods, services and config maps."""

from __future__ import annotations

import base64
from typing import Any

from .resources import CLAIMS, NAMESPACES, PODS, SECRETS, SERVICES, Obj, Resource


def set_defaults(resource: Resource, obj: Obj) -> None:
    """Fill in what the user left out, in place."""
    if resource is PODS:
        _pod(obj.setdefault("spec", {}))
    elif resource is SERVICES:
        spec = obj.setdefault("spec", {})
        _fill(spec, type="ClusterIP", sessionAffinity="None")
        for port in spec.get("ports") or []:
            _fill(port, protocol="TCP", targetPort=port.get("port"))
    elif resource is SECRETS:
        written = {key: base64.b64encode(value.encode()).decode() for key, value in obj.pop("stringData", {}).items()}
        obj["data"] = {**(obj.get("data") or {}), **written}
        _fill(obj, type="Opaque")
    elif resource is CLAIMS:
        _fill(obj.setdefault("spec", {}), volumeMode="Filesystem")
        obj["status"] = {"phase": "Pending"}
    elif resource is NAMESPACES:
        obj["spec"], obj["status"] = {"finalizers": ["kubernetes"]}, {"phase": "Active"}
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")


def _fill(target: Obj, **values: Any) -> None:
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def _pod(spec: Obj) -> None:
    _fill(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        terminationGracePeriodSeconds=30,
        schedulerName="default-scheduler",
        securityContext={},
        serviceAccountName="default",
        enableServiceLinks=True,
        priority=0,
    )
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        latest = ":" not in container.get("image", "").rpartition("/")[2]
        _fill(
            container,
            imagePullPolicy="Always" if latest else "IfNotPresent",
            terminationMessagePath="/dev/termination-log",
            terminationMessagePolicy="File",
            resources={},
        )
        for port in container.get("ports") or []:
            _fill(port, protocol="TCP")
        limits = container["resources"].get("limits")
        if limits:  # what is limited is requested too
            container["resources"]["requests"] = {**limits, **(container["resources"].get("requests") or {})}
    for volume in spec.get("volumes") or []:
        for source in ("configMap", "secret"):
            if volume.get(source) is not None:
                _fill(volume[source], defaultMode=0o644)
        if len(volume) == 1:  # only a name
            volume["emptyDir"] = {}
