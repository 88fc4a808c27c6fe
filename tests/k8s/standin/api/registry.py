"""The verbs of the API: what happens between a decoded request and the store.

HTTP requests and the controllers both come through here, so a controller's pod is defaulted, validated and admitted
like anybody's.
"""

from __future__ import annotations

import copy
import secrets
import string
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.defaults import set_defaults
from tests.k8s.standin.objects.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    QUOTAS,
    RESOURCES,
    SERVICE_ACCOUNTS,
    Obj,
    Resource,
)
from tests.k8s.standin.objects.validation import causes_of

from . import admission
from .storage import Store
from .webhooks import call_webhook

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
FINALIZERS = {"Foreground": FOREGROUND, "Orphan": ORPHAN, "Background": ""}
# Set by the server; what a request says about them is ignored.
SYSTEM_METADATA = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def now(delay: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=delay)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Registry:
    """`served`: what discovery lists, without the CRDs that are missing. `webhook_up`: whether operators answer."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.served = frozenset(RESOURCES)
        self.webhook_up = True

    # -- reading ------------------------------------------------------------------------------------------------------

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """The stored object, not to be changed; ApiError 404."""
        obj = self.store.get(resource, namespace, name)
        if obj is None:
            raise status.not_found(resource, name)
        return obj

    # -- writing ------------------------------------------------------------------------------------------------------

    def create(self, resource: Resource, namespace: str, given: Obj, *, dry_run: bool = False) -> Obj:
        with self.store.lock:
            obj = copy.deepcopy(given)
            obj.update(apiVersion=resource.api_version, kind=resource.kind)
            metadata = _new_metadata(resource, namespace, obj.get("metadata") or {})
            obj["metadata"] = metadata
            admission.check_namespace(self.store, resource, obj)
            _initial_status(resource, obj)
            set_defaults(resource, obj)
            self._suspend_queued(obj)
            self._validate(resource, obj, None)
            if resource is PODS:
                admission.check_pod(self.store, obj)
            call_webhook(resource, obj, up=self.webhook_up)
            admission.check_quota(self.store, resource, obj)
            existing = self.store.get(resource, namespace, metadata["name"])
            if existing is not None:
                terminating = bool(existing["metadata"].get("deletionTimestamp"))
                raise status.already_exists(resource, metadata["name"], terminating=terminating)
            if dry_run:
                return obj
            stored = self.store.put(resource, obj)
            if resource is NAMESPACES:
                self.create(SERVICE_ACCOUNTS, metadata["name"], {"metadata": {"name": "default"}})
                for published in ("kube-root-ca.crt", "openshift-service-ca.crt"):  # by clusters, into each namespace
                    self.create(CONFIG_MAPS, metadata["name"], {"metadata": {"name": published}})
            return stored

    def update(
        self, resource: Resource, namespace: str, name: str, given: Obj, *, subresource: str = "", dry_run: bool = False
    ) -> Obj:
        with self.store.lock:
            old = self.get(resource, namespace, name)
            obj = _with_kept_parts(resource, copy.deepcopy(given), old, subresource)
            version = (given.get("metadata") or {}).get("resourceVersion")
            if version and version != old["metadata"]["resourceVersion"]:
                raise status.stale(resource, name)
            if not subresource:
                self._validate(resource, obj, old)
                call_webhook(resource, obj, up=self.webhook_up)
            if dry_run or _same(obj, old):
                return obj if dry_run else old
            stored = self.store.put(resource, obj)
            if _may_go(stored):
                self.store.remove(resource, namespace, name)
            return stored

    def change(
        self, resource: Resource, namespace: str, name: str, change: Callable[[Obj], None], *, subresource: str = ""
    ) -> Obj:
        """Read, let `change` edit a copy, and write it back."""
        with self.store.lock:
            obj = copy.deepcopy(self.get(resource, namespace, name))
            change(obj)
            return self.update(resource, namespace, name, obj, subresource=subresource)

    def delete(self, resource: Resource, namespace: str, name: str, options: Obj | None = None) -> Obj:
        """The deleted object while it still terminates, else a Status. `options`: DeleteOptions."""
        options = options or {}
        with self.store.lock:
            old = self.get(resource, namespace, name)
            _check_preconditions(resource, old, options.get("preconditions") or {})
            policy = options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "Background")
            if policy not in FINALIZERS:
                raise status.bad_request(f'invalid propagationPolicy "{policy}"')
            grace = _grace(resource, old, options.get("gracePeriodSeconds"))
            obj = copy.deepcopy(old)
            metadata = obj["metadata"]
            finalizers = [f for f in metadata.get("finalizers") or [] if f not in (FOREGROUND, ORPHAN)]
            finalizers += filter(None, [FINALIZERS[policy]])
            metadata.update({"finalizers": finalizers} if finalizers else {})
            if options.get("dryRun"):
                return obj
            if resource is NAMESPACES:
                obj["status"] = {"phase": "Terminating"}
            if not finalizers and not grace and resource is not NAMESPACES:
                self.store.remove(resource, namespace, name)
                return status.success(resource, name, metadata["uid"])
            if not metadata.get("deletionTimestamp") or grace < metadata.get("deletionGracePeriodSeconds", 0):
                metadata.update(deletionTimestamp=now(grace), deletionGracePeriodSeconds=grace)
            return old if _same(obj, old) else self.store.put(resource, obj)

    # -- steps --------------------------------------------------------------------------------------------------------

    def _suspend_queued(self, obj: Obj) -> None:
        """Kueue's webhook: a job with a queue waits, suspended, until it is admitted."""
        queue = (obj["metadata"].get("labels") or {}).get(QUEUE_LABEL)
        kueue = any(resource.group == "kueue.x-k8s.io" for resource in self.served)
        if queue and kueue and obj["kind"] == "PyTorchJob":
            obj["spec"].setdefault("runPolicy", {})["suspend"] = True
        elif queue and kueue and obj["kind"] == "TrainJob":
            obj["spec"]["suspend"] = True

    def _validate(self, resource: Resource, obj: Obj, old: Obj | None) -> None:
        causes = causes_of(resource, obj, old)
        if causes:
            raise status.invalid(resource, obj["metadata"].get("name", ""), causes)


def _new_metadata(resource: Resource, namespace: str, given: Obj) -> Obj:
    metadata = {key: value for key, value in given.items() if key not in SYSTEM_METADATA and value is not None}
    if metadata.pop("resourceVersion", ""):
        raise status.bad_request("resourceVersion should not be set on objects to be created")
    if metadata.get("namespace", namespace) != namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if not metadata.get("name") and metadata.get("generateName"):
        suffix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(5))
        metadata["name"] = metadata["generateName"] + suffix
    metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now())
    if resource.namespaced:
        metadata["namespace"] = namespace
    if resource.has_status:
        metadata["generation"] = 1
    return metadata


def _initial_status(resource: Resource, obj: Obj) -> None:
    if resource.has_status:
        obj.pop("status", None)
    if resource is PODS:
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    elif resource is QUOTAS:
        obj["status"] = {"hard": (obj.get("spec") or {}).get("hard") or {}, "used": {}}


def _with_kept_parts(resource: Resource, obj: Obj, old: Obj, subresource: str) -> Obj:
    """The new object with what this request may not change taken from the old one."""
    if subresource == "status":
        return {**old, "status": obj.get("status", {})}
    given, kept = obj.get("metadata") or {}, old["metadata"]
    if given.get("name", kept["name"]) != kept["name"]:
        why = f"the name of the object ({given['name']}) does not match the name on the URL ({kept['name']})"
        raise status.bad_request(why)
    if given.get("uid", kept["uid"]) != kept["uid"]:
        why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {kept['uid']}"
        raise status.conflict(resource, kept["name"], why)
    ours = {key: kept[key] for key in (*SYSTEM_METADATA, "name", "namespace", "resourceVersion") if key in kept}
    theirs = {key: value for key, value in given.items() if key not in SYSTEM_METADATA}
    obj["metadata"] = {**theirs, **ours}
    obj.update(apiVersion=resource.api_version, kind=resource.kind)
    if resource.has_status:
        obj.pop("status", None)
        obj.update({"status": old["status"]} if "status" in old else {})
        if obj.get("spec") != old.get("spec"):
            obj["metadata"]["generation"] = kept.get("generation", 0) + 1
    return obj


def _same(obj: Obj, old: Obj) -> bool:
    def versionless(one: Obj) -> Obj:
        return {**one, "metadata": {k: v for k, v in one["metadata"].items() if k != "resourceVersion"}}

    return versionless(obj) == versionless(old)


def _may_go(obj: Obj) -> bool:
    """Whether an object was only waiting for its last finalizer."""
    metadata = obj["metadata"]
    waits = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds") or obj["kind"] == "Namespace"
    return bool(metadata.get("deletionTimestamp")) and not waits


def _check_preconditions(resource: Resource, obj: Obj, preconditions: Obj) -> None:
    for key, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        wanted, found = preconditions.get(key), obj["metadata"][key]
        if wanted is not None and wanted != found:
            why = f"Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}"
            raise status.conflict(resource, obj["metadata"]["name"], why)


def _grace(resource: Resource, obj: Obj, asked: int | None) -> int:
    """Seconds until a pod is gone for certain: none unless it runs on a node."""
    if resource is not PODS or not obj["spec"].get("nodeName") or obj["status"]["phase"] in ("Succeeded", "Failed"):
        return 0
    return obj["spec"]["terminationGracePeriodSeconds"] if asked is None else asked
