"""The garbage collector, and the end of namespaces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from tests.k8s.standin.api.registry import FOREGROUND, ORPHAN
from tests.k8s.standin.api.storage import Change, Key, key_of
from tests.k8s.standin.objects.resources import NAMESPACES, Obj, Resource
from tests.k8s.standin.objects.status import ApiError

from .controller import Controller


class GarbageCollector(Controller):
    """Removes what belongs to nobody any more, and the finalizers of what waits for its dependents.

    One key stands for everything: a look goes over all objects with owners or finalizers.
    """

    name = "garbage-collector"

    def concerned(self, change: Change) -> Iterable[Key]:
        metadata = change.obj["metadata"]
        relevant = change.type == "DELETED" or metadata.get("deletionTimestamp") or metadata.get("ownerReferences")
        return [("", "")] if relevant else []

    def reconcile(self, namespace: str, name: str) -> float | None:
        with self.store.lock:
            objects = [(r, obj) for r in self.store.resources() for obj in self.store.all(r)]
        alive = {obj["metadata"]["uid"]: obj for _, obj in objects}
        dependents: dict[str, list[tuple[Resource, Obj]]] = {}
        for resource, obj in objects:
            for reference in obj["metadata"].get("ownerReferences") or []:
                dependents.setdefault(reference["uid"], []).append((resource, obj))
        for resource, obj in objects:
            self._collect(resource, obj, alive, dependents)
        return None

    def _collect(
        self, resource: Resource, obj: Obj, alive: dict[str, Obj], dependents: dict[str, list[tuple[Resource, Obj]]]
    ) -> None:
        metadata = obj["metadata"]
        references = metadata.get("ownerReferences") or []
        if resource is NAMESPACES and metadata.get("deletionTimestamp"):
            self._empty(metadata["name"])
            return
        finalizers = metadata.get("finalizers") or []
        own = dependents.get(metadata["uid"], [])
        if metadata.get("deletionTimestamp") and FOREGROUND in finalizers:
            for dependent in own:
                self._delete(*dependent)
            if not own:
                self._finalized(resource, obj, FOREGROUND)
        elif metadata.get("deletionTimestamp") and ORPHAN in finalizers:
            for dependent in own:
                self._disown(*dependent, metadata["uid"])
            self._finalized(resource, obj, ORPHAN)
        elif references and not any(reference["uid"] in alive for reference in references):
            self._delete(resource, obj)

    def _empty(self, namespace: str) -> None:
        contents = [
            (resource, obj)
            for resource in self.store.resources()
            if resource.namespaced
            for obj in self.store.all(resource, namespace)
        ]
        for content in contents:
            self._delete(*content)
        if not contents:
            self.store.remove(NAMESPACES, "", namespace)

    def _delete(self, resource: Resource, obj: Obj) -> None:
        metadata = obj["metadata"]
        if not metadata.get("deletionTimestamp"):
            _try(lambda: self.registry.delete(resource, metadata.get("namespace", ""), metadata["name"]))

    def _disown(self, resource: Resource, obj: Obj, uid: str) -> None:
        def change(one: Obj) -> None:
            kept = [reference for reference in one["metadata"]["ownerReferences"] if reference["uid"] != uid]
            one["metadata"]["ownerReferences"] = kept

        _try(lambda: self.registry.change(resource, *key_of(obj), change))

    def _finalized(self, resource: Resource, obj: Obj, finalizer: str) -> None:
        _try(lambda: self.registry.change(resource, *key_of(obj), lambda one: _drop(one, finalizer)))


def _drop(obj: Obj, finalizer: str) -> None:
    obj["metadata"]["finalizers"] = [one for one in obj["metadata"]["finalizers"] if one != finalizer]


def _try(action: Callable[[], object]) -> None:
    """Somebody may be quicker, or an admission rule forbid it; the next change brings another look."""
    with contextlib.suppress(ApiError):
        action()
