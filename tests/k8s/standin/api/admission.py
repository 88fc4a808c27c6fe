"""Built-in admission: namespaces, service accounts, priority classes and quotas."""

from __future__ import annotations

from decimal import Decimal

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.quantities import amounts, quantity, total
from tests.k8s.standin.objects.resources import (
    NAMESPACES,
    PODS,
    PRIORITY_CLASSES,
    QUOTAS,
    SERVICE_ACCOUNTS,
    Obj,
    Resource,
)

from .storage import Store

ENDED = ("Succeeded", "Failed")
BUILTIN_PRIORITIES = ("system-cluster-critical", "system-node-critical")


def check_namespace(store: Store, resource: Resource, obj: Obj) -> None:
    """Nothing is created in a namespace that is missing or on its way out."""
    namespace = obj["metadata"].get("namespace", "")
    if not namespace:
        return
    found = store.get(NAMESPACES, "", namespace)
    if found is None:
        raise status.not_found(NAMESPACES, namespace)
    if found["metadata"].get("deletionTimestamp"):
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        message = f"namespace {namespace} is being terminated"
        cause = {"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}
        raise status.forbidden(resource, obj["metadata"].get("name", ""), why, [cause])


def check_pod(store: Store, pod: Obj) -> None:
    """The service account and the priority class of a pod must be there."""
    namespace, name, spec = pod["metadata"]["namespace"], pod["metadata"]["name"], pod["spec"]
    account = spec["serviceAccountName"]
    if store.get(SERVICE_ACCOUNTS, namespace, account) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise status.forbidden(PODS, name, why)
    priority = spec.get("priorityClassName", "")
    if not priority:
        return
    found = store.get(PRIORITY_CLASSES, "", priority)
    if found is not None:
        spec["priority"] = found["value"]
    elif priority not in BUILTIN_PRIORITIES:
        raise status.forbidden(PODS, name, f"no PriorityClass with name {priority} was found")


def check_quota(store: Store, resource: Resource, obj: Obj) -> None:
    """ApiError 403 when a ResourceQuota of the namespace has no room for one object more."""
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"].get("name", "")
    for quota in store.all(QUOTAS, namespace) if namespace else []:
        asked, used = usage(resource, obj), used_in(store, namespace)
        hard = (quota.get("spec") or {}).get("hard") or {}
        exceeded = [key for key in sorted(hard) if key in asked and used.get(key, 0) + asked[key] > quantity(hard[key])]
        if exceeded:
            requested = ",".join(f"{key}={asked[key].normalize():f}" for key in exceeded)
            taken = ",".join(f"{key}={used.get(key, Decimal()).normalize():f}" for key in exceeded)
            limited = ",".join(f"{key}={hard[key]}" for key in exceeded)
            why = f"requested: {requested}, used: {taken}, limited: {limited}"
            raise status.forbidden(resource, name, f"exceeded quota: {quota['metadata']['name']}, {why}")


def used_in(store: Store, namespace: str) -> dict[str, Decimal]:
    """What the objects of a namespace take of a quota; pods that ended take nothing."""
    objects = [(resource, obj) for resource in store.resources() for obj in store.all(resource, namespace)]
    return total(usage(r, obj) for r, obj in objects if r is not PODS or obj["status"]["phase"] not in ENDED)


def usage(resource: Resource, obj: Obj) -> dict[str, Decimal]:
    """What one object takes of a quota, by the quota's keys."""
    taken = {f"count/{resource.qualified}": Decimal(1), resource.plural: Decimal(1)}
    for container in obj["spec"]["containers"] if resource is PODS else []:
        for part in ("requests", "limits"):
            named = amounts(container["resources"].get(part))
            taken = total([taken, {f"{part}.{name}": amount for name, amount in named.items()}])
    return taken
