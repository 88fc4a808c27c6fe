"""The state of a job and its reason, from its conditions, its pods and their events.

Conditions alone are not enough: they say `Created` for hours while an image cannot be pulled, or `Succeeded` although a
worker never ran.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...errors import SchedulerError
from ...runs.records import Status
from .client import Object

#: Kind → the label of its pods that has the name of their job.
JOB_LABELS = {"PyTorchJob": "training.kubeflow.org/job-name", "TrainJob": "jobset.sigs.k8s.io/jobset-name"}
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
#: A job without pods for longer than this probably has no operator that creates them.
OPERATOR_SECONDS = 60
_SUCCEEDED, _FAILED = ("Succeeded", "Complete"), "Failed"
_LENGTH = 200
_NAMED = 3  # how many pods a reason lists


def of(
    job: Object,
    pods: list[Object],
    warnings: Callable[[str], list[Object]],
    workload: Callable[[str], Object | None],
    now: datetime,
) -> Status:
    """The state of a job.

    warnings: name of an object → its events of type Warning. workload: uid of a job → its Kueue Workload, or None. Both
    are called only if conditions and pods do not show the reason. Raises SchedulerError for objects of an unknown form.
    """
    try:
        return _of(job, pods, warnings, workload, now)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise SchedulerError(
            f"the API server described a job in a form that alignlaunch cannot read ({type(error).__name__}: {error})\n"
            "    remedy: report it with `kubectl get -o yaml` of the job and its pods"
        ) from error


def _of(
    job: Object,
    pods: list[Object],
    warnings: Callable[[str], list[Object]],
    workload: Callable[[str], Object | None],
    now: datetime,
) -> Status:
    conditions = {c["type"]: c for c in job.get("status", {}).get("conditions") or [] if c.get("status") == "True"}
    views = sorted((_view(pod) for pod in pods), key=lambda view: view.index)
    nodes = ",".join(dict.fromkeys(view.node for view in views if view.node))
    if _FAILED in conditions:
        return _failed(job, conditions[_FAILED], views, nodes, warnings)
    if any(name in conditions for name in _SUCCEEDED):
        late = [view for view in views if view.phase == "Pending"]
        return Status("COMPLETED", 0, f"{late[0].name} never ran: {late[0].why}" if late else "", nodes)
    if "deletionTimestamp" in job["metadata"]:
        return Status("COMPLETING", None, "being deleted", nodes)
    if "Suspended" in conditions or not views:
        why = _why_suspended(job, workload) if "Suspended" in conditions else _why_no_pods(job, warnings, now)
        return Status("PENDING", None, why)
    return _of_pods(job, views, nodes, warnings)


def queue_of(job: Object) -> str:
    """Kueue's LocalQueue that the job is in, or ""."""
    return (job["metadata"].get("labels") or {}).get(_QUEUE_LABEL) or ""


def _of_pods(job: Object, views: list[PodView], nodes: str, warnings: Callable[[str], list[Object]]) -> Status:
    """The state of a job that has pods and has not ended: RUNNING once as many pods run as it needs."""
    name = job["metadata"]["name"]
    running = [view for view in views if view.phase in ("Running", "Succeeded") and not view.why]
    restarts = _some(
        [f"{view.name} restarted {view.restarts} times, last: {_end(view)}" for view in views if view.restarts]
    )
    if len(running) >= _wanted(job):
        return Status("RUNNING", None, restarts, nodes)
    late = [view for view in views if view not in running]
    if not late:
        return Status("PENDING", None, _last(warnings(name)) or f"{len(views)} of {_wanted(job)} pods are there", nodes)
    # Still RUNNING if the missing pods have failed: the operator may replace them, or will report the job as failed.
    state = "RUNNING" if all(view.phase == "Failed" for view in late) else "PENDING"
    why = "; ".join(f"{view.name}: {_why_missing(view, warnings)}" for view in late[:_NAMED])
    return Status(state, None, why, nodes)


def _why_missing(view: PodView, warnings: Callable[[str], list[Object]]) -> str:
    if view.phase == "Failed":
        return f"failed ({_end(view)}), and the training operator has not acted on it yet"
    return view.why or _last(warnings(view.name)) or "about to start"


@dataclass(frozen=True)
class PodView:
    """One pod. why: what keeps it from running; code: its container's exit code, once that has ended."""

    name: str
    index: int
    phase: str
    node: str
    why: str
    restarts: int
    code: int | None
    ended_by: str
    ended_at: str


def index_of(pod: Object) -> int:
    """The node rank of a pod.

    PyTorchJob: the master is 0 and worker i is i + 1; without a master (elastic) worker i is i. TrainJob: its index.
    """
    labels = pod["metadata"].get("labels") or {}
    if "training.kubeflow.org/replica-type" in labels:
        index = int(labels.get("training.kubeflow.org/replica-index", 0))
        elastic = not any(v["name"] == "PET_NODE_RANK" for v in _container(pod["spec"]).get("env") or [])
        return index + (labels["training.kubeflow.org/replica-type"].lower() == "worker" and not elastic)
    return int(labels.get("batch.kubernetes.io/job-completion-index", 0))


def container_of(pod: Object) -> str:
    """The name of the container that trains."""
    return str(_container(pod["spec"])["name"])


def _container(spec: Object) -> Object:
    return next((c for c in spec["containers"] if c["name"] in ("pytorch", "node")), spec["containers"][0])


def _view(pod: Object) -> PodView:
    status = pod.get("status", {})
    wanted = container_of(pod)
    container: Object = next((c for c in status.get("containerStatuses") or [] if c["name"] == wanted), {})
    state, last = container.get("state") or {}, (container.get("lastState") or {}).get("terminated") or {}
    ended = state.get("terminated") or {}
    return PodView(
        name=pod["metadata"]["name"],
        index=index_of(pod),
        phase=status.get("phase", "Pending"),
        node=pod["spec"].get("nodeName", ""),
        why=_why_not_running(pod, state, last),
        restarts=int(container.get("restartCount", 0)),
        code=(ended or last).get("exitCode"),
        ended_by=status.get("reason") or _disruption(status) or (ended or last).get("reason", ""),
        ended_at=(ended or last).get("finishedAt") or "",
    )


def _disruption(status: Object) -> str:
    """Why a pod was disrupted (since Kubernetes 1.26), such as EvictionByEvictionAPI, PreemptionByScheduler; or ""."""
    conditions = status.get("conditions") or []
    disruptions = (c for c in conditions if c["type"] == "DisruptionTarget" and c["status"] == "True")
    return next((str(condition.get("reason", "")) for condition in disruptions), "")


def _why_not_running(pod: Object, state: Object, last: Object) -> str:
    """The scheduler's or the kubelet's reason, or the init container that still runs; "" if there is none."""
    status = pod.get("status", {})
    if status.get("phase") in ("Succeeded", "Failed"):
        return ""
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _short(condition.get("message") or condition.get("reason", ""))
    waiting = state.get("waiting") or {}
    if waiting.get("reason") == "CrashLoopBackOff" and last:
        return f"crashes again and again, last with exit code {last.get('exitCode')} ({last.get('reason', '')})"
    inits = [(f"init container {c['name']}", c.get("state") or {}) for c in status.get("initContainerStatuses") or []]
    stuck = next((f"{name}: {_words(s['waiting'])}" for name, s in inits if _is_stuck(s.get("waiting"))), "")
    runs = next((f"{name} is waiting" for name, s in inits if "running" in s), "")
    return _words(waiting) if _is_stuck(waiting) else stuck or runs


def _is_stuck(waiting: Object | None) -> bool:
    return bool(waiting) and (waiting or {}).get("reason") not in (None, "ContainerCreating", "PodInitializing")


def _words(waiting: Object) -> str:
    return _short(f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))


def _failed(
    job: Object, condition: Object, views: list[PodView], nodes: str, warnings: Callable[[str], list[Object]]
) -> Status:
    """The status of a failed job.

    Its exit code is that of the container that failed first: the others may have failed because of it.
    """
    bad = sorted((view for view in views if view.code), key=lambda view: (view.ended_at, view.index))
    first = bad[0] if bad else None
    reason, message = condition.get("reason", ""), condition.get("message", "")
    state, gone = "FAILED", _gone(job, views)
    if "DeadlineExceeded" in (reason, *(view.ended_by for view in bad)) or "active longer than" in message:
        state, reason = "TIMEOUT", "the time limit"
    elif first:
        if first.ended_by == "OOMKilled":
            state = "OUT_OF_MEMORY"
        reason = _some([f"{view.name}: {_end(view)}" for view in bad] + gone)
    elif views and gone:
        reason = _some(gone)
    else:  # the operator has deleted the pods: use its message and the job's last warning
        reason = "; ".join(filter(None, [_short(message or reason), _last(warnings(job["metadata"]["name"]))]))
    return Status(state, first.code if first else None, reason, nodes)


def _gone(job: Object, views: list[PodView]) -> list[str]:
    """A message for each pod that the operator must have created and that does not exist any more."""
    roles, name = job["spec"].get("pytorchReplicaSpecs") or {}, job["metadata"]["name"]
    made = [f"{name}-{role.lower()}-{i}" for role, one in roles.items() for i in range(int(one.get("replicas", 1)))]
    there = {view.name for view in views}
    return [f"{pod} is gone: deleted, evicted, or its node was lost" for pod in made if pod not in there]


def _end(view: PodView) -> str:
    code = [] if view.code is None else [f"exit code {view.code}"]  # an evicted pod may have none
    return ", ".join([*code, *([view.ended_by] if view.ended_by not in ("", "Error") else [])]) or "no exit code"


def _some(parts: list[str]) -> str:
    more = len(parts) - _NAMED
    return "; ".join(parts[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


#: Why a job has no pods that somebody suspended, and no queue.
SUSPENDED = "suspended"


def _why_suspended(job: Object, workload: Callable[[str], Object | None]) -> str:
    """Kueue's message, if the job is in one of its queues."""
    queue = queue_of(job)
    if not queue:
        return SUSPENDED
    found = workload(job["metadata"]["uid"])
    if found is None:  # no right to read it, or not created yet
        return f"not admitted by Kueue: waits in queue {queue}"
    conditions = {c["type"]: c for c in found.get("status", {}).get("conditions") or []}
    if (conditions.get("Admitted") or {}).get("status") == "True":
        return "admitted, about to start"
    quota = conditions.get("QuotaReserved") or {}
    return _short(f"not admitted by Kueue: {quota.get('message') or 'no answer yet'}")


def _why_no_pods(job: Object, warnings: Callable[[str], list[Object]], now: datetime) -> str:
    if warning := _last(warnings(job["metadata"]["name"])):
        return warning
    created = datetime.fromisoformat(job["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    age = (now.astimezone(UTC) - created).total_seconds()
    if age < OPERATOR_SECONDS:
        return "no pods yet"
    return f"no pods after {age:.0f} s: is the training operator running?"


def _last(warnings: list[Object]) -> str:
    """The latest warning."""
    if not warnings:
        return ""
    last = max(warnings, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return _short(f"{last.get('reason', '')}: {last.get('message', '')}")


def _wanted(job: Object) -> int:
    """How many pods the job needs to run; for an elastic job its minimum."""
    spec: Any = job["spec"]
    if "pytorchReplicaSpecs" in spec:
        fewest = (spec.get("elasticPolicy") or {}).get("minReplicas")
        return int(fewest or sum(int(r.get("replicas", 1)) for r in spec["pytorchReplicaSpecs"].values()))
    return int((spec.get("trainer") or {}).get("numNodes", 1))


def _short(text: str) -> str:
    """The text on one line, cut to _LENGTH characters."""
    line = re.sub(r"\s+", " ", text).strip()
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 3]}..."
