"""The objects, their versions, and what changed: etcd and the watch cache in one.

A stored object is never changed in place: every write stores a new one. So what a reader got stays what it was, and a
reader that wants to change something copies it first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.resources import Obj, Resource

HISTORY = 20_000  # changes that can still be watched from; older versions answer 410
SNAPSHOTS = 64  # lists that can still be continued

Key = tuple[str, str]  # namespace ("" where there is none), name


@dataclass(frozen=True)
class Change:
    """`previous` is None for what was added; `obj` of a deletion is the last state at the deletion's version."""

    version: int
    type: str  # ADDED, MODIFIED, DELETED
    resource: Resource
    obj: Obj
    previous: Obj | None


class Store:
    """Objects by resource and key; `lock` makes several calls one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 1000
        self._objects: dict[Resource, dict[Key, Obj]] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._oldest = self.version  # changes after this version are known
        self._snapshots: dict[tuple[Resource, int], list[Obj]] = {}
        self._listeners: list[Callable[[Change], None]] = []

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with every change, under the lock: it must be quick and write nothing."""
        with self.lock:
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Change], None]) -> None:
        with self.lock:
            self._listeners.remove(listener)

    def get(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        return self._objects.get(resource, {}).get((namespace, name))

    def all(self, resource: Resource, namespace: str = "") -> list[Obj]:
        """In the order of their keys; all namespaces without one."""
        with self.lock:
            found = sorted(self._objects.get(resource, {}).items())
        return [obj for (where, _), obj in found if namespace in ("", where)]

    def resources(self) -> list[Resource]:
        """Those that ever held an object."""
        return list(self._objects)

    def put(self, resource: Resource, obj: Obj) -> Obj:
        """Store an object, whose metadata is complete but for the version; what is returned has that too."""
        with self.lock:
            key = key_of(obj)
            previous = self._objects.setdefault(resource, {}).get(key)
            self.version += 1
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
            self._objects[resource][key] = obj
            self._tell(Change(self.version, "MODIFIED" if previous else "ADDED", resource, obj, previous))
            return obj

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        with self.lock:
            previous = self._objects.get(resource, {}).pop((namespace, name), None)
            if previous is not None:
                self.version += 1
                last = {**previous, "metadata": {**previous["metadata"], "resourceVersion": str(self.version)}}
                self._tell(Change(self.version, "DELETED", resource, last, previous))

    def changes(self, after: int) -> list[Change]:
        """All changes after a version; ApiError 410 when they are no longer known."""
        with self.lock:
            if after < self._oldest:
                raise status.expired(after, self._oldest)
            newest_first: list[Change] = []
            for change in reversed(self._history):
                if change.version <= after:
                    break
                newest_first.append(change)
            return newest_first[::-1]

    def forget(self) -> None:
        """Compact: every version before this one is now too old, also for lists that are half read."""
        with self.lock:
            self.version += 1  # the present version was handed out already, and is to be too old as well
            self._history.clear()
            self._oldest = self.version
            self._snapshots.clear()

    def remember(self, resource: Resource, version: int, objects: list[Obj]) -> None:
        """Keep a list for its next pages."""
        with self.lock:
            self._snapshots[resource, version] = objects
            while len(self._snapshots) > SNAPSHOTS:
                del self._snapshots[next(iter(self._snapshots))]

    def remembered(self, resource: Resource, version: int) -> list[Obj]:
        try:
            return self._snapshots[resource, version]
        except KeyError:
            raise status.continue_expired() from None

    def _tell(self, change: Change) -> None:
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].version
        self._history.append(change)
        for listener in self._listeners:
            listener(change)


def key_of(obj: Mapping[str, Obj]) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
