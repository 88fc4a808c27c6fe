"""Conditions of a PyTorchJob, as its operator keeps them."""

from __future__ import annotations

from tests.k8s.standin.api.registry import now
from tests.k8s.standin.objects.resources import Obj

KIND = "PyTorchJob"


def is_true(status: Obj, kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in status.get("conditions") or [])


def is_finished(status: Obj) -> bool:
    return is_true(status, "Succeeded") or is_true(status, "Failed")


def set_condition(status: Obj, kind: str, message: str, *, value: str = "True", reason: str = "") -> None:
    """Append or update a condition, in place; a failed job keeps what it has."""
    if is_true(status, "Failed"):
        return
    reason = KIND + (reason or kind)
    conditions = status.setdefault("conditions", [])
    current = next((c for c in conditions if c["type"] == kind), None)
    if current and (current["status"], current["reason"]) == (value, reason):
        return
    since = current["lastTransitionTime"] if current and current["status"] == value else now()
    others = {"Restarting": "Running", "Running": "Restarting"}  # one takes the other's place
    kept = [c for c in conditions if c["type"] not in (kind, others.get(kind))]
    if kind in ("Failed", "Succeeded"):
        kept = [{**c, "status": "False"} if c["type"] == "Running" else c for c in kept]
    new = {"type": kind, "status": value, "reason": reason, "message": message}
    status["conditions"] = [*kept, {**new, "lastUpdateTime": now(), "lastTransitionTime": since}]
