"""The trainer's reconciler for TrainJobs, with what JobSet and Job controllers do for it."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from tests.k8s.standin.api.registry import now
from tests.k8s.standin.api.storage import Change, Key, key_of
from tests.k8s.standin.objects.resources import JOBS, JOBSETS, PODS, SERVICES, TRAINJOBS, Obj, Resource

from . import trainjob
from .controller import Controller, controller_of
from .training_operator import age
from .trainjob import INDEX, JOBSET_NAME

BACKOFF_LIMIT = 6


class Trainer(Controller):
    """Makes the objects of a TrainJob, and its status of its pods."""

    name = "trainjob-controller"

    def concerned(self, change: Change) -> Iterable[Key]:
        namespace, name = key_of(change.obj)
        if change.resource in (TRAINJOBS, JOBSETS):
            return [(namespace, name)]
        jobset = (change.obj["metadata"].get("labels") or {}).get(JOBSET_NAME)
        return [(namespace, jobset)] if change.resource in (PODS, JOBS) and jobset else []

    def everything(self) -> Iterable[Key]:
        return [key_of(job) for job in self.store.all(TRAINJOBS)]

    def reconcile(self, namespace: str, name: str) -> float | None:
        stored = self.store.get(TRAINJOBS, namespace, name)
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            return None
        status = copy.deepcopy(stored.get("status") or {})
        again = self._bring_about(stored, status)
        if status != stored.get("status"):
            written = {**stored, "metadata": {**stored["metadata"], "resourceVersion": ""}, "status": status}
            self.registry.update(TRAINJOBS, namespace, name, written, subresource="status")
        return again

    def _bring_about(self, job: Obj, status: Obj) -> float | None:
        namespace, name = key_of(job)
        if _is_true(status, "Complete") or _is_true(status, "Failed"):
            return None
        if job["spec"].get("suspend"):
            _set(status, "Suspended", "True", "Suspended", "TrainJob is suspended")
            self._delete_pods(namespace, name)
        elif _is_true(status, "Suspended"):
            _set(status, "Suspended", "False", "Resumed", "TrainJob is resumed")
        jobset = self._ensure(JOBSETS, job, trainjob.jobset(job))
        self._ensure(SERVICES, job, trainjob.service(job, jobset))
        child = self._ensure(JOBS, job, trainjob.child(job, jobset))
        pods = self._pods(child)
        if not job["spec"].get("suspend"):
            for index in range(trainjob.num_nodes(job)):
                if not any(pod["metadata"]["annotations"][INDEX] == str(index) for pod in pods):
                    self.registry.create(PODS, namespace, trainjob.pod(job, child, index))
            pods = self._pods(child)
        self._judge(job, status, pods)
        return self._deadline(job, status)

    def _judge(self, job: Obj, status: Obj, pods: list[Obj]) -> None:
        """Conditions and the one entry of jobsStatus."""
        namespace, name = key_of(job)
        count = trainjob.num_nodes(job)
        phases = [pod["status"]["phase"] for pod in pods]
        restarts = sum(c["restartCount"] for pod in pods for c in pod["status"].get("containerStatuses") or [])
        failed = "Failed" in phases or restarts > BACKOFF_LIMIT
        succeeded = phases.count("Succeeded") == count
        if failed:
            first = f"(first failed job: {trainjob.child_name(job)})"
            _set(status, "Failed", "True", "FailedJobs", f"jobset failed due to one or more job failures {first}")
            self._delete_pods(namespace, name)
        elif succeeded:
            _set(status, "Complete", "True", "AllJobsCompleted", "jobset completed successfully")
        suspended = bool(job["spec"].get("suspend"))
        active = not failed and not succeeded and not suspended and bool(pods)
        ready = active and sum(_is_ready(pod) or pod["status"]["phase"] == "Succeeded" for pod in pods) == count
        counts = {"ready": ready, "succeeded": succeeded, "failed": failed, "active": active, "suspended": suspended}
        status["jobsStatus"] = [{"name": trainjob.NODE, **{key: int(value) for key, value in counts.items()}}]

    def _deadline(self, job: Obj, status: Obj) -> float | None:
        seconds = job["spec"].get("activeDeadlineSeconds")
        if not seconds or job["spec"].get("suspend") or _is_true(status, "Complete") or _is_true(status, "Failed"):
            return None
        left = float(seconds - age(job["metadata"]["creationTimestamp"]))
        if left > 0:
            return left
        _set(status, "Failed", "True", "DeadlineExceeded", "TrainJob exceeded its active deadline")
        self.registry.delete(JOBSETS, *key_of(job))
        return None

    def _ensure(self, resource: Resource, job: Obj, wanted: Obj) -> Obj:
        namespace = job["metadata"]["namespace"]
        found = self.store.get(resource, namespace, wanted["metadata"]["name"])
        return found or self.registry.create(resource, namespace, wanted)

    def _pods(self, child: Obj) -> list[Obj]:
        namespace, uid = child["metadata"]["namespace"], child["metadata"]["uid"]
        return [pod for pod in self.store.all(PODS, namespace) if controller_of(pod).get("uid") == uid]

    def _delete_pods(self, namespace: str, name: str) -> None:
        """The active ones; those that ended keep their logs."""
        for pod in self.store.all(PODS, namespace):
            if (pod["metadata"].get("labels") or {}).get(JOBSET_NAME) != name or pod["metadata"].get(
                "deletionTimestamp"
            ):
                continue
            if pod["status"]["phase"] in ("Pending", "Running"):
                self.registry.delete(PODS, *key_of(pod))


def _is_true(status: Obj, kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in status.get("conditions") or [])


def _set(status: Obj, kind: str, value: str, reason: str, message: str) -> None:
    conditions = status.setdefault("conditions", [])
    if any((c["type"], c["status"]) == (kind, value) for c in conditions):
        return
    new = {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": now()}
    status["conditions"] = [*(c for c in conditions if c["type"] != kind), new]


def _is_ready(pod: Obj) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
