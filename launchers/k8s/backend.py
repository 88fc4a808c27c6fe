"""Runs on Kubernetes: their states, logs and end, for `watch`. The cluster of a run is that of its handle's context."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .. import logs as files
from ..errors import SchedulerError, UsageError
from ..runs import Run, Status
from . import logs, refusals, status
from .client import Api, Object, Refused

SCHEME = "k8s"
#: In the run's folder: the pods' lines, kept before they were deleted.
KEPT = "pods.log"
_CANCELLED = "cancelled"  # a file of the run's folder
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_GONE = Status("UNKNOWN", reason="the cluster has no such job any more: deleted by hand, or by its ttl")


def handle_of(api: Api, name: str) -> str:
    return f"{SCHEME}://{api.context}/{api.namespace}/{name}"


def api_of(run: Run) -> Api:
    """The cluster that the run's handle names. Raises UsageError where the kubeconfig has no such context."""
    context, namespace, _ = run.handle.removeprefix(f"{SCHEME}://").rsplit("/", 2)
    return Api(None if context == "in-cluster" else context, namespace)


class KubernetesBackend:
    """State from conditions, pods and events; logs from the pods."""

    scheme = SCHEME

    def recover(self, handle: str) -> Run:
        """A run that the record does not know."""
        if handle.removeprefix(f"{SCHEME}://").count("/") < 2:
            raise UsageError(f"{handle}: not a Kubernetes handle\n    remedy: k8s://CONTEXT/NAMESPACE/NAME")
        return Run(handle, handle.rpartition("/")[2], run_dir="", log="")

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """One list of jobs, one of pods and one of events for all runs of a namespace."""
        found: dict[str, Status] = {}
        places = defaultdict(list)
        for run in runs:
            places[run.handle.rpartition("/")[0]].append(run)
        for group in places.values():
            api = api_of(group[0])
            with refusals.while_asking(api.context, api.namespace):
                found |= _statuses(api, group)
        return found

    def require_here(self, run: Run) -> None:
        """Raises UsageError where the kubeconfig does not know the run's cluster."""
        api_of(run)

    def cancel(self, run: Run) -> None:
        """Delete the job, and with it pods and ConfigMap."""
        api = api_of(run)
        with refusals.while_asking(api.context, api.namespace):
            for kind in status.JOB_LABELS:
                if _job(api, kind, run):
                    api.delete(kind, run.id)
        if run.run_dir:
            (Path(run.run_dir) / _CANCELLED).touch()

    def keep_log(self, run: Run, say: Callable[[str], None]) -> None:
        """Save what the pods still have of their logs in the run's folder."""
        api = api_of(run)
        path = Path(run.run_dir or ".") / KEPT
        with refusals.while_asking(api.context, api.namespace):
            logs.keep(api, _pods(api, [run]), path)
        say(f"log: {path}")

    def pause(self, run: Run, seconds: float) -> None:
        """Wait until something of the job changes."""
        end = time.monotonic() + seconds
        with suppress(Refused, SchedulerError):
            api = api_of(run)
            kind = next((kind for kind in status.JOB_LABELS if _job(api, kind, run)), None)
            if kind:
                changes = api.changes(kind, max(1, int(seconds)), field_selector=f"metadata.name={run.id}")
                next(changes, None)  # as it is now
                next(changes, None)
                return
        time.sleep(max(0.0, end - time.monotonic()))

    def has_log(self, run: Run) -> bool:
        """Whether a container has begun, or what it wrote was kept."""
        if _kept(run):
            return True
        api = api_of(run)
        with refusals.while_asking(api.context, api.namespace):
            return any(logs.has_begun(pod) for pod in _pods(api, [run]))

    def log(
        self,
        run: Run,
        count: int | None,
        wanted: Callable[[str], bool],
        is_over: Callable[[], bool] | None,
        say: Callable[[str], None],
    ) -> Iterator[str]:
        """The last `count` wanted lines; with `is_over` what comes until then, too."""
        if kept := _kept(run):
            yield from files.tail(kept, count, wanted)[0]
            return
        api = api_of(run)
        with refusals.while_asking(api.context, api.namespace):
            if is_over is None:
                yield from logs.tail(api, _pods(api, [run]), count, wanted)
            else:
                yield from logs.follow(api, lambda: _pods(api, [run]), count, wanted, is_over, say)


def _kept(run: Run) -> Path | None:
    path = Path(run.run_dir) / KEPT if run.run_dir else None
    return path if path and path.is_file() else None


def _job(api: Api, kind: str, run: Run) -> Object | None:
    try:
        return api.read(kind, run.id)
    except Refused as refused:
        if refused.code == 404:
            return None  # a kind that this cluster does not know
        raise


def _statuses(api: Api, runs: list[Run]) -> dict[str, Status]:
    jobs = {job["metadata"]["name"]: job for kind in status.JOB_LABELS for job in _jobs(api, kind, runs)}
    pods, events = _pods(api, runs), api.find("Event") if jobs else []
    workloads = _workloads(api) if any(map(_is_queued, jobs.values())) else {}
    found = {}
    for run in runs:
        job = jobs.get(run.id)
        if job is None:
            cancelled = bool(run.run_dir) and (Path(run.run_dir) / _CANCELLED).exists()
            found[run.handle] = replace(run.status, state="CANCELLED", reason="") if cancelled else _GONE
            continue
        own = [pod for pod in pods if _job_name(pod) == run.id]
        mine = {run.id, *(pod["metadata"]["name"] for pod in own)}
        about = [event for event in events if event["involvedObject"].get("name") in mine]
        found[run.handle] = status.of(job, own, about, workloads.get(job["metadata"]["uid"]), datetime.now(UTC))
    return found


def _jobs(api: Api, kind: str, runs: list[Run]) -> list[Object]:
    if len(runs) == 1:
        job = _job(api, kind, runs[0])
        return [job] if job else []
    try:
        return api.find(kind, label_selector="alignlaunch/run")
    except Refused as refused:
        if refused.code == 404:
            return []
        raise


def _pods(api: Api, runs: list[Run]) -> list[Object]:
    names = ",".join(sorted({run.id for run in runs}))
    return [
        pod for label in status.JOB_LABELS.values() for pod in api.find("Pod", label_selector=f"{label} in ({names})")
    ]


def _job_name(pod: Object) -> str | None:
    labels = pod["metadata"].get("labels") or {}
    return next((labels[label] for label in status.JOB_LABELS.values() if label in labels), None)


def _is_queued(job: Object) -> bool:
    return _QUEUE_LABEL in (job["metadata"].get("labels") or {})


def _workloads(api: Api) -> dict[str, Object]:
    """Kueue's objects by the uid of their job; none where there is no right to see them."""
    try:
        found = api.find("Workload")
    except Refused:
        return {}
    return {owner["uid"]: one for one in found for owner in one["metadata"].get("ownerReferences") or []}
