"""A controller: a queue of objects to look at, and one thread that brings each to the state it should have."""

from __future__ import annotations

import heapq
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable

from tests.k8s.standin.api.registry import Registry
from tests.k8s.standin.api.storage import Change, Key
from tests.k8s.standin.objects.resources import Obj
from tests.k8s.standin.objects.status import ApiError

FIRST_RETRY_S, LAST_RETRY_S = 0.1, 3.0


class Controller:
    """Subclasses say which objects a change concerns, and what to do about one of them.

    While `paused`, as when its pod is down, a controller does nothing; afterwards it looks at everything once.
    """

    name = "controller"

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.store = registry.store
        self.failures: Counter[Key] = Counter()  # of refused attempts in a row, by object
        self.crashes: list[str] = []  # tracebacks: a test that sees one fails
        self._queue: list[tuple[float, Key]] = []
        self._wake = threading.Condition()
        self._stopping = False
        self._paused = False
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)

    def concerned(self, change: Change) -> Iterable[Key]:
        """The objects to look at after a change."""
        raise NotImplementedError

    def everything(self) -> Iterable[Key]:
        """All objects of this controller, for after a pause."""
        return ()

    def reconcile(self, namespace: str, name: str) -> float | None:
        """Look at one object; returns the seconds after which to look again, unless something changes before."""
        raise NotImplementedError

    def start(self) -> None:
        self.store.listen(self._notice)
        self._thread.start()

    def stop(self) -> None:
        self.store.unlisten(self._notice)
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        for key in self.everything():
            self.enqueue(key)

    def enqueue(self, key: Key, delay: float = 0) -> None:
        with self._wake:
            heapq.heappush(self._queue, (time.monotonic() + delay, key))
            self._wake.notify()

    def _notice(self, change: Change) -> None:
        for key in self.concerned(change):
            self.enqueue(key)

    def _next(self) -> Key | None:
        """The next object that is due, taken out of the queue with all its entries that are due too."""
        with self._wake:
            while not self._stopping:
                now = time.monotonic()
                if self._queue and self._queue[0][0] <= now:
                    key = self._queue[0][1]
                    self._queue = [entry for entry in self._queue if entry[1] != key or entry[0] > now]
                    heapq.heapify(self._queue)
                    return key
                self._wake.wait(self._queue[0][0] - now if self._queue else None)
        return None

    def _work(self) -> None:
        while (key := self._next()) is not None:
            if self._paused:
                continue
            try:
                again = self.reconcile(*key)
            except ApiError:
                self.failures[key] += 1
                again = min(FIRST_RETRY_S * 2 ** (self.failures[key] - 1), LAST_RETRY_S)
            except Exception:  # noqa: BLE001 (told to the tests, which fail)
                self.crashes.append(traceback.format_exc())
                again = None
            else:
                self.failures.pop(key, None)
            if again is not None:
                self.enqueue(key, again)


def controller_of(obj: Obj) -> Obj:
    """The owner reference of the object's controller; empty without one."""
    references = obj["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), {})


def owner_reference(obj: Obj) -> Obj:
    """A reference to an object as the controller that made another."""
    metadata = obj["metadata"]
    about = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    return {**about, "controller": True, "blockOwnerDeletion": True}
