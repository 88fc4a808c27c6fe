"""Kueue as far as a job's owner sees it: a queued job waits, suspended, until its LocalQueue is there and admits it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tests.k8s.standin.api.registry import QUEUE_LABEL, now
from tests.k8s.standin.api.storage import Change, Key, key_of
from tests.k8s.standin.objects.resources import LOCAL_QUEUES, PYTORCHJOBS, TRAINJOBS, WORKLOADS, Obj, Resource

from .controller import Controller, owner_reference
from .events import record

JOB_KINDS = (PYTORCHJOBS, TRAINJOBS)


class Kueue(Controller):
    """Keys are those of jobs; a change of a LocalQueue concerns them all. Every LocalQueue has room for everything."""

    name = "kueue-admission"

    def concerned(self, change: Change) -> Iterable[Key]:
        if change.resource in JOB_KINDS and QUEUE_LABEL in (change.obj["metadata"].get("labels") or {}):
            return [key_of(change.obj)]
        return self.everything() if change.resource is LOCAL_QUEUES else []

    def everything(self) -> Iterable[Key]:
        jobs = [job for resource in JOB_KINDS for job in self.store.all(resource)]
        return [key_of(job) for job in jobs if QUEUE_LABEL in (job["metadata"].get("labels") or {})]

    def reconcile(self, namespace: str, name: str) -> float | None:
        for resource in JOB_KINDS:
            job = self.store.get(resource, namespace, name)
            queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL) if job else None
            if job is not None and queue and not job["metadata"].get("deletionTimestamp"):
                self._admit(resource, job, queue)
        return None

    def _admit(self, resource: Resource, job: Obj, queue: str) -> None:
        namespace, name = key_of(job)
        workload = self._workload(job, queue)
        admitted = self.store.get(LOCAL_QUEUES, namespace, queue) is not None
        message = "Quota reserved in ClusterQueue default" if admitted else f"LocalQueue {queue} doesn't exist"
        reason = "QuotaReserved" if admitted else "Inadmissible"
        value = str(admitted)
        condition = {"type": "QuotaReserved", "status": value, "reason": reason, "message": message}
        current = (workload.get("status") or {}).get("conditions") or [{}]
        if current[0].get("message") != message:
            conditions = [{**condition, "lastTransitionTime": now()}]
            if admitted:
                conditions.append({**conditions[0], "type": "Admitted", "reason": "Admitted"})
            change = {"conditions": conditions}
            key = key_of(workload)
            self.registry.change(WORKLOADS, *key, lambda one: one.update(status=change), subresource="status")
            told = "Admitted" if admitted else "Pending"
            record(self.registry, workload, told, message, component=self.name, warning=not admitted)
        if admitted and current[0].get("status") != "True":
            self.registry.change(resource, namespace, name, _unsuspend)

    def _workload(self, job: Obj, queue: str) -> Obj:
        namespace, name = key_of(job)
        digest = hashlib.sha256(job["metadata"]["uid"].encode()).hexdigest()[:5]
        workload = f"{job['kind'].lower()}-{name}-{digest}"
        found = self.store.get(WORKLOADS, namespace, workload)
        labels = {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]}
        metadata = {"name": workload, "labels": labels, "ownerReferences": [owner_reference(job)]}
        return found or self.registry.create(WORKLOADS, namespace, {"metadata": metadata, "spec": {"queueName": queue}})


def _unsuspend(job: Obj) -> None:
    holder = job["spec"]["runPolicy"] if job["kind"] == "PyTorchJob" else job["spec"]
    holder["suspend"] = False
