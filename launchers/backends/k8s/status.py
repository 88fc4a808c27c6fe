"""What a job is really doing: its conditions, its pods and their events, joined into one state with its reason.

A condition alone says `Created` for hours while an image cannot be pulled, or `Succeeded` while a worker never ran.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...runs.records import Status
from .client import Object

#: Pods carry the name of their job under one of these.
JOB_LABELS = {"PyTorchJob": "training.kubeflow.org/job-name", "TrainJob": "jobset.sigs.k8s.io/jobset-name"}
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
#: A job without pods for longer than this has nobody who makes them.
OPERATOR_SECONDS = 60
_SUCCEEDED, _FAILED = ("Succeeded", "Complete"), "Failed"
_LENGTH = 200
_NAMED = 3  # pods in a reason


def of(
    job: Object,
    pods: list[Object],
    warnings: Callable[[str], list[Object]],
    workload: Callable[[str], Object | None],
    now: datetime,
) -> Status:
    """The state of a job.

    warnings: name → events against the object. workload: uid of a job → Kueue's object, or None. Both are called only
    where conditions and pods leave it open why the job waits.
    """
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
    """Kueue's LocalQueue that the job is in, or nothing."""
    return (job["metadata"].get("labels") or {}).get(_QUEUE_LABEL) or ""


def _of_pods(job: Object, views: list[PodView], nodes: str, warnings: Callable[[str], list[Object]]) -> Status:
    """Of a job that has pods and has not ended: it runs once all that it needs do."""
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
    # What becomes of a job whose pods have failed is its operator's to say: it may replace them.
    state = "RUNNING" if all(view.phase == "Failed" for view in late) else "PENDING"
    why = "; ".join(f"{view.name}: {_why_late(view, warnings)}" for view in late[:_NAMED])
    return Status(state, None, why, nodes)


def _why_late(view: PodView, warnings: Callable[[str], list[Object]]) -> str:
    if view.phase == "Failed":
        return f"failed ({_end(view)}), and the training operator has not acted on it yet"
    return view.why or _last(warnings(view.name)) or "about to start"


@dataclass(frozen=True)
class PodView:
    """One pod: `why`, what keeps it from running; `code`, that of its container, once it has ended."""

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
    """The node rank of a pod: the master is 0, worker i is i + 1 (without a master i); a TrainJob's pods count anew."""
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
    """Who ended a pod before its time, since Kubernetes 1.26: EvictionByEvictionAPI, PreemptionByScheduler, ..."""
    conditions = status.get("conditions") or []
    told = (c for c in conditions if c["type"] == "DisruptionTarget" and c["status"] == "True")
    return next((str(condition.get("reason", "")) for condition in told), "")


def _why_not_running(pod: Object, state: Object, last: Object) -> str:
    """The reason of the scheduler, of the kubelet, or of the init container that still runs; empty for none."""
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
    """The first container that ended badly has the job's exit code; those after it may only have followed it."""
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
    else:  # the operator has deleted the pods: what it said of them before
        reason = "; ".join(filter(None, [_short(message or reason), _last(warnings(job["metadata"]["name"]))]))
    return Status(state, first.code if first else None, reason, nodes)


def _gone(job: Object, views: list[PodView]) -> list[str]:
    """The pods that the operator has made and that are not there any more."""
    roles, name = job["spec"].get("pytorchReplicaSpecs") or {}, job["metadata"]["name"]
    made = [f"{name}-{role.lower()}-{i}" for role, one in roles.items() for i in range(int(one.get("replicas", 1)))]
    there = {view.name for view in views}
    return [f"{pod} is gone: deleted, evicted, or its node was lost" for pod in made if pod not in there]


def _end(view: PodView) -> str:
    code = [] if view.code is None else [f"exit code {view.code}"]  # a pod that is evicted may have none
    return ", ".join([*code, *([view.ended_by] if view.ended_by not in ("", "Error") else [])]) or "no exit code"


def _some(told: list[str]) -> str:
    more = len(told) - _NAMED
    return "; ".join(told[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _why_suspended(job: Object, workload: Callable[[str], Object | None]) -> str:
    """Kueue's own words, where the job is in one of its queues."""
    queue = queue_of(job)
    if not queue:
        return "suspended"
    found = workload(job["metadata"]["uid"])
    if found is None:  # no right to see it, or not made yet
        return f"not admitted by Kueue: waits in queue {queue}"
    conditions = {c["type"]: c for c in found.get("status", {}).get("conditions") or []}
    if (conditions.get("Admitted") or {}).get("status") == "True":
        return "admitted, about to start"
    told = conditions.get("QuotaReserved") or {}
    return _short(f"not admitted by Kueue: {told.get('message') or 'no answer yet'}")


def _why_no_pods(job: Object, warnings: Callable[[str], list[Object]], now: datetime) -> str:
    if told := _last(warnings(job["metadata"]["name"])):
        return told
    created = datetime.fromisoformat(job["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    age = (now.astimezone(UTC) - created).total_seconds()
    if age < OPERATOR_SECONDS:
        return "no pods yet"
    return f"no pods after {age:.0f} s: is the training operator running?"


def _last(warnings: list[Object]) -> str:
    """What was said last."""
    if not warnings:
        return ""
    last = max(warnings, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return _short(f"{last.get('reason', '')}: {last.get('message', '')}")


def _wanted(job: Object) -> int:
    """How many pods the job needs to run; of an elastic one the fewest."""
    spec: Any = job["spec"]
    if "pytorchReplicaSpecs" in spec:
        fewest = (spec.get("elasticPolicy") or {}).get("minReplicas")
        return int(fewest or sum(int(r.get("replicas", 1)) for r in spec["pytorchReplicaSpecs"].values()))
    return int((spec.get("trainer") or {}).get("numNodes", 1))


def _short(text: str) -> str:
    """One line of words."""
    line = re.sub(r"\s+", " ", text).strip()
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 3]}..."
