"""The training operator's reconciler for PyTorchJobs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from tests.k8s.standin.api.registry import now
from tests.k8s.standin.api.storage import Change, Key, key_of
from tests.k8s.standin.api.webhooks import CONTAINER
from tests.k8s.standin.objects.resources import PODS, PYTORCHJOBS, SERVICES, Obj, Resource
from tests.k8s.standin.objects.status import ApiError

from . import pytorchjob
from .conditions import KIND, is_finished, is_true, set_condition
from .controller import Controller, controller_of
from .events import record
from .pytorchjob import REPLICA_INDEX, REPLICA_TYPE

ITSELF = "kubeflow.org/training-operator"
RESTARTED = ("OnFailure", "Always", "ExitCode")  # policies whose restarts the backoff limit counts


def age(timestamp: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()


class TrainingOperator(Controller):
    """Makes pods and services of jobs, and conditions of pods."""

    name = "pytorchjob-controller"

    def concerned(self, change: Change) -> Iterable[Key]:
        namespace, name = key_of(change.obj)
        if change.resource is PYTORCHJOBS:
            return [(namespace, name)]
        owner = controller_of(change.obj) if change.resource in (PODS, SERVICES) else {}
        return [(namespace, owner["name"])] if owner.get("kind") == KIND else []

    def everything(self) -> Iterable[Key]:
        return [key_of(job) for job in self.store.all(PYTORCHJOBS)]

    def reconcile(self, namespace: str, name: str) -> float | None:
        stored = self.store.get(PYTORCHJOBS, namespace, name)
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            return None
        if (stored["spec"].get("runPolicy") or {}).get("managedBy", ITSELF) != ITSELF:
            return None
        job = pytorchjob.defaulted(stored)
        status = copy.deepcopy(stored.get("status") or {})
        set_condition(status, "Created", f"PyTorchJob {name} is created.")
        again = self._bring_about(job, status)
        if status != stored.get("status"):
            written = {**stored, "metadata": {**stored["metadata"], "resourceVersion": ""}, "status": status}
            self.registry.update(PYTORCHJOBS, namespace, name, written, subresource="status")
        return again

    def _bring_about(self, job: Obj, status: Obj) -> float | None:
        policy = job["spec"]["runPolicy"]
        pods = self._pods(job)
        if is_finished(status):
            return self._clean_up(job, status, pods)
        if policy.get("suspend"):
            self._suspend(job, status, pods)
            return None
        if is_true(status, "Suspended"):
            set_condition(status, "Suspended", f"PyTorchJob {_name(job)} is resumed.", value="False", reason="Resumed")
            status["startTime"] = now()
        self._report_abnormal(job, pods)
        if why := self._limit_reached(job, status, pods):
            status.setdefault("completionTime", now())
            self._tell(job, f"{KIND}Failed", why)
            for pod in pods:  # whatever cleanPodPolicy says, and before the condition is there
                self._delete_pod(job, pod)
            set_condition(status, "Failed", why)
            return None
        status["replicaStatuses"] = {kind: {} for kind in job["spec"]["pytorchReplicaSpecs"]}
        for kind in sorted(job["spec"]["pytorchReplicaSpecs"]):  # a refused pod or service keeps the next kind waiting
            self._reconcile_pods(job, status, kind, pods)
            self._reconcile_services(job, kind)
        self._update_status(job, status)
        # Not at the deadline: the real controller's own request for it goes into a queue that nobody reads (1.9), and
        # only some other change of the job or its pods makes it look at its watch.
        return None

    def _pods(self, job: Obj) -> list[Obj]:
        uid = job["metadata"]["uid"]
        found = self.store.all(PODS, job["metadata"]["namespace"])
        return [pod for pod in found if controller_of(pod).get("uid") == uid]

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _clean_up(self, job: Obj, status: Obj, pods: list[Obj]) -> float | None:
        """What cleanPodPolicy and the TTL say of a finished job."""
        policy = job["spec"]["runPolicy"]
        for pod in pods:
            active = pod["status"]["phase"] in ("Running", "Pending")
            if policy["cleanPodPolicy"] == "All" or (policy["cleanPodPolicy"] == "Running" and active):
                self._delete_pod(job, pod)
        if is_true(status, "Succeeded"):
            for replica in (status.get("replicaStatuses") or {}).values():
                if active := replica.pop("active", 0):
                    replica["succeeded"] = replica.get("succeeded", 0) + active
        ttl = policy.get("ttlSecondsAfterFinished")
        if ttl is None or "completionTime" not in status:
            return None
        left = float(ttl - age(status["completionTime"]))
        if left <= 0:
            self.registry.delete(PYTORCHJOBS, *key_of(job))
            return None
        return left

    def _suspend(self, job: Obj, status: Obj, pods: list[Obj]) -> None:
        for pod in pods:
            self._delete_pod(job, pod)
        for replica in (status.get("replicaStatuses") or {}).values():
            replica.pop("active", None)
        message = f"PyTorchJob {_name(job)} is suspended."
        if is_true(status, "Running"):
            set_condition(status, "Running", message, value="False", reason="Suspended")
        if not is_true(status, "Suspended"):
            self._tell(job, f"{KIND}Suspended", message)
        set_condition(status, "Suspended", message)

    def _limit_reached(self, job: Obj, status: Obj, pods: list[Obj]) -> str:
        policy, name = job["spec"]["runPolicy"], _name(job)
        limit, deadline = policy.get("backoffLimit"), policy.get("activeDeadlineSeconds")
        if limit is not None and (self._restarts(job, pods) >= max(limit, 1) or self._failed_anew(job, status, pods)):
            return f"Job {name} has failed because it has reached the specified backoff limit"
        if deadline is not None and "startTime" in status and age(status["startTime"]) >= deadline:
            return f"Job {name} has failed because it was active longer than specified deadline"
        return ""

    def _restarts(self, job: Obj, pods: list[Obj]) -> int:
        """Of the containers of pods that run now: those of a pod in between attempts do not count."""
        kinds = job["spec"]["pytorchReplicaSpecs"]
        counted = {kind.lower() for kind, replica in kinds.items() if replica["restartPolicy"] in RESTARTED}
        return sum(
            container["restartCount"]
            for pod in pods
            if pod["status"]["phase"] == "Running" and pod["metadata"]["labels"][REPLICA_TYPE] in counted
            for part in ("initContainerStatuses", "containerStatuses")
            for container in pod["status"].get(part) or []
        )

    def _failed_anew(self, job: Obj, status: Obj, pods: list[Obj]) -> bool:
        """A pod failed that the status does not know of, and the controller has no retries left."""
        failed = sum(pod["status"]["phase"] == "Failed" for pod in pods)
        known = sum(replica.get("failed", 0) for replica in (status.get("replicaStatuses") or {}).values())
        active = sum(_is_active(pod) for pod in pods)
        total = sum(replica["replicas"] for replica in job["spec"]["pytorchReplicaSpecs"].values())
        retries = self.failures[key_of(job)]
        return bool(failed > known and active != total and retries + 1 > job["spec"]["runPolicy"]["backoffLimit"])

    # -- pods and services --------------------------------------------------------------------------------------------

    def _reconcile_pods(self, job: Obj, status: Obj, kind: str, pods: list[Obj]) -> None:
        labels = {pod["metadata"]["name"]: pod["metadata"]["labels"] for pod in pods}
        own = [pod for pod in pods if labels[pod["metadata"]["name"]][REPLICA_TYPE] == kind.lower()]
        found = {labels[pod["metadata"]["name"]][REPLICA_INDEX]: pod for pod in own}
        counts: Counter[str] = Counter()
        for index in range(job["spec"]["pytorchReplicaSpecs"][kind]["replicas"]):
            pod = found.get(str(index))
            if pod is None:
                self._create_pod(job, kind, index)
            else:
                self._look_at(job, status, kind, pod)
                counts[_counted_as(pod)] += 1
        status["replicaStatuses"][kind] = {key: counts[key] for key in ("active", "succeeded", "failed") if counts[key]}

    def _create_pod(self, job: Obj, kind: str, index: int) -> None:
        self._create(PODS, job, pytorchjob.pod(job, kind, index), "Pod")

    def _look_at(self, job: Obj, status: Obj, kind: str, pod: Obj) -> None:
        """A failed pod is made anew, or fails the job, as the replica's restartPolicy says."""
        name, namespace, code = pod["metadata"]["name"], pod["metadata"]["namespace"], 0xBEEF
        for container in pod["status"].get("containerStatuses") or []:
            ended = container["state"].get("terminated")
            if container["name"] == CONTAINER and ended:
                code = ended["exitCode"]
                self._tell(job, "ExitedWithCode", f"Pod: {namespace}.{name} exited with code {code}")
        policy = job["spec"]["pytorchReplicaSpecs"][kind]["restartPolicy"]
        if pod["status"]["phase"] != "Failed":
            return
        if policy in ("OnFailure", "Always") or (policy == "ExitCode" and code >= 128):
            self._delete_pod(job, pod)
            message = f"job {_name(job)} is restarting because {kind} replica(s) failed."
            self._tell(job, f"{KIND}Restarting", message, warning=True)
            set_condition(status, "Restarting", message)
        elif policy == "ExitCode":
            message = f'job "{_name(job)}" is failing because "{kind}" replica(s) failed.'
            self._tell(job, f"{KIND}Failed", message, warning=True)
            set_condition(status, "Failed", message)

    def _reconcile_services(self, job: Obj, kind: str) -> None:
        services = self.store.all(SERVICES, job["metadata"]["namespace"])
        uid = job["metadata"]["uid"]
        found = {one["metadata"]["name"] for one in services if controller_of(one).get("uid") == uid}
        for index in range(job["spec"]["pytorchReplicaSpecs"][kind]["replicas"]):
            if pytorchjob.pod_name(job, kind, index) not in found:
                self._create(SERVICES, job, pytorchjob.service(job, kind, index), "Service")

    def _create(self, resource: Resource, job: Obj, obj: Obj, word: str) -> None:
        try:
            self.registry.create(resource, job["metadata"]["namespace"], obj)
        except ApiError as refusal:
            self._tell(job, f"FailedCreate{word}", f"Error creating: {refusal}", warning=True)
            raise
        self._tell(job, f"SuccessfulCreate{word}", f"Created {word.lower()}: {obj['metadata']['name']}")

    def _delete_pod(self, job: Obj, pod: Obj) -> None:
        """The pod and the service of its name."""
        namespace, name = key_of(pod)
        if pod["metadata"].get("deletionTimestamp"):
            return
        for resource, word in ((PODS, "Pod"), (SERVICES, "Service")):
            if self.store.get(resource, namespace, name):
                self.registry.delete(resource, namespace, name)
                self._tell(job, f"SuccessfulDelete{word}", f"Deleted {word.lower()}: {name}")

    # -- status -------------------------------------------------------------------------------------------------------

    def _update_status(self, job: Obj, status: Obj) -> None:
        status.setdefault("startTime", now())
        kinds, name = job["spec"]["pytorchReplicaSpecs"], _name(job)
        for kind, replica in sorted(kinds.items()):
            counts = status["replicaStatuses"][kind]
            selector = {**pytorchjob.job_labels(job), REPLICA_TYPE: kind.lower()}
            counts["selector"] = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
            running, succeeded, failed = (counts.get(key, 0) for key in ("active", "succeeded", "failed"))
            if kind == "Master" or "Master" not in kinds:
                done = succeeded == replica["replicas"] or (job["spec"].get("elasticPolicy") and succeeded)
                if running and not (kind == "Worker" and done):
                    set_condition(status, "Running", f"PyTorchJob {name} is running.")
                if done:
                    message = f"PyTorchJob {name} is successfully completed."
                    self._tell(job, f"{KIND}Succeeded", message)
                    status.setdefault("completionTime", now())
                    set_condition(status, "Succeeded", message)
                    if kind == "Master":
                        return  # the workers are not looked at any more
            if failed and replica["replicas"] > succeeded + running:
                self._failed_replica(job, status, kind, failed)

    def _failed_replica(self, job: Obj, status: Obj, kind: str, failed: int) -> None:
        restarting = job["spec"]["pytorchReplicaSpecs"][kind]["restartPolicy"] != "Never"
        word = "Restarting" if restarting else "Failed"
        what = "restarting" if restarting else "failed"
        message = f"PyTorchJob {_name(job)} is {what} because {failed} {kind} replica(s) failed."
        self._tell(job, KIND + word, message, warning=restarting)
        if not restarting:
            status.setdefault("completionTime", now())
        set_condition(status, word, message)

    def _report_abnormal(self, job: Obj, pods: list[Obj]) -> None:
        """An event of the job for each active pod with something wrong."""
        for pod in filter(_is_active, pods):
            name, state = pod["metadata"]["name"], pod["status"]
            containers = state.get("containerStatuses") or state.get("initContainerStatuses") or []
            for container in containers:
                what, now_in = f"Error pod {name} container {container['name']}", container["state"]
                ended, waiting = now_in.get("terminated"), now_in.get("waiting")
                if ended and ended["exitCode"]:
                    message = f"{what} exitCode: {ended['exitCode']} terminated message: "
                    self._tell(job, ended["reason"], message, warning=True)
                if waiting and waiting.get("message"):
                    self._tell(job, waiting["reason"], f"{what} waiting message: {waiting['message']}", warning=True)
            conditions = sorted(state.get("conditions") or [], key=lambda c: str(c["lastTransitionTime"]))
            if not containers and conditions and conditions[-1]["status"] != "True":
                message = f"Error pod {name} condition message: {conditions[-1].get('message', '')}"
                self._tell(job, conditions[-1].get("reason", ""), message, warning=True)

    def _tell(self, job: Obj, reason: str, message: str, *, warning: bool = False) -> None:
        record(self.registry, job, reason, message, component=self.name, warning=warning)


def _name(job: Obj) -> str:
    return str(job["metadata"]["name"])


def _is_active(pod: Obj) -> bool:
    return pod["status"]["phase"] not in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp")


def _counted_as(pod: Obj) -> str:
    """Which of a replica's counts a pod raises; a running pod that is being deleted is a failed one."""
    phase = pod["status"]["phase"]
    if phase == "Running" and pod["metadata"].get("deletionTimestamp"):
        return "failed"
    return {"Running": "active", "Succeeded": "succeeded", "Failed": "failed"}.get(phase, "")
