"""A pod's status as its kubelet reports it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.k8s.standin.api.registry import now
from tests.k8s.standin.objects.resources import Obj

from .container import Container


def phase(pod: Obj, init: Sequence[Container], main: Sequence[Container]) -> str:
    """Pending, Running, Succeeded or Failed. A container that waits for its restart runs, as its pod sees it."""
    failed_init = any(one.done and one.exit_code for one in init)
    if failed_init:
        return "Failed"
    begun = all(one.done for one in init) and all("waiting" not in one.state or one.last_state for one in main)
    if not begun:
        return "Pending"
    if not all(one.done for one in main):
        return "Running"
    return "Failed" if any(one.exit_code for one in main) else "Succeeded"


def status(pod: Obj, init: Sequence[Container], main: Sequence[Container], address: str, started: str) -> Obj:
    """The whole status; conditions keep the time of their last transition."""
    current = phase(pod, init, main)
    old = {one["type"]: one for one in pod["status"].get("conditions") or []}
    initialized = all(one.done and not one.exit_code for one in init)
    ready = current == "Running" and all(one.running for one in main)
    unready = "" if ready else "PodCompleted" if current == "Succeeded" else "ContainersNotReady"
    conditions = [
        _condition(old, "PodReadyToStartContainers", bool(address)),
        _condition(old, "Initialized", initialized, "" if initialized else "ContainersNotInitialized"),
        _condition(old, "Ready", ready, unready),
        _condition(old, "ContainersReady", ready, unready),
        old.get("PodScheduled") or _condition(old, "PodScheduled", True),
    ]
    body: Obj = {"phase": current, "conditions": conditions, "hostIP": "10.0.0.1", "startTime": started}
    body |= {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
    if init:
        body["initContainerStatuses"] = [one.status() for one in init]
    body["containerStatuses"] = [one.status() for one in main]
    return {**body, "qosClass": pod["status"].get("qosClass", "BestEffort")}


def _condition(old: dict[str, Obj], kind: str, value: bool, reason: str = "") -> Obj:
    word = str(value)
    before = old.get(kind, {})
    since = before["lastTransitionTime"] if before.get("status") == word else now()
    about = {"type": kind, "status": word, "lastProbeTime": None, "lastTransitionTime": since}
    return {**about, "reason": reason} if reason else about
