"""Built-in admission: namespaces, service accounts, priority classes and quotas."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from . import status
from .quantities import quantity
from .resources import NAMESPACES, PODS, PRIORITY_CLASSES, QUOTAS, SERVICE_ACCOUNTS, Obj, Resource
from .storage import Store

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
    asked = usage(resource, obj)
    for quota in store.all(QUOTAS, namespace) if namespace else []:
        hard = (quota.get("spec") or {}).get("hard") or {}
        used = used_in(store, namespace)
        exceeded = sorted(key for key in hard if asked[key] and used[key] + asked[key] > quantity(hard[key]))
        if exceeded:
            told = [
                f"{word}: {','.join(f'{key}={_number(amounts[key])}' for key in exceeded)}"
                for word, amounts in (("requested", asked), ("used", used))
            ]
            limited = ",".join(f"{key}={hard[key]}" for key in exceeded)
            why = f"exceeded quota: {quota['metadata']['name']}, {', '.join(told)}, limited: {limited}"
            raise status.forbidden(resource, name, why)


def used_in(store: Store, namespace: str) -> Counter[str]:
    total: Counter[str] = Counter()
    with store.lock:
        for resource in store.resources():
            for obj in store.all(resource, namespace):
                if resource is not PODS or obj["status"]["phase"] not in ("Succeeded", "Failed"):
                    total.update(usage(resource, obj))
    return total


def usage(resource: Resource, obj: Obj) -> Counter[str]:
    """What one object takes of a quota, by the quota's keys."""
    taken: Counter[str] = Counter({f"count/{resource.qualified}": 1, resource.plural: 1})
    if resource is PODS:
        for container in obj["spec"]["containers"]:
            for part in ("requests", "limits"):
                for name, amount in (container["resources"].get(part) or {}).items():
                    taken[f"{part}.{name}"] += quantity(amount)  # type: ignore[assignment]
    return taken


def _number(amount: int | Decimal) -> str:
    return f"{Decimal(amount).normalize():f}"
