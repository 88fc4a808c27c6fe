"""Runs on Kubernetes: their states, logs and end, for `watch`. The cluster of a run is that of its handle's context."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from alignlaunch.train import trained_folder

from ...errors import SchedulerError, UsageError
from ...render.render import MANIFESTS
from ...runs.records import Run, Status
from .. import logfile as files
from . import logs, refusals, status
from .client import Api, Object, Refused
from .submit import RUN_LABEL

SCHEME = "k8s"
#: In the run's folder: the pods' lines, kept before they were deleted.
KEPT = "pods.log"
#: Longer than a pod has between TERM and KILL, unless it asks for more.
_ENDING_SECONDS = 40.0
_CANCELLED = "cancelled"  # a file of the run's folder
#: Of Kueue's objects: the uid of their job.
_JOB_UID = "kueue.x-k8s.io/job-uid"
#: Letters of a selector that names runs one by one; proxies refuse URLs of more than some 8,000.
_LONGEST_SELECTOR = 4000
_GONE = Status("UNKNOWN", reason="the cluster has no such job any more: deleted by hand, or by its ttl")


def handle_of(api: Api, name: str) -> str:
    return f"{SCHEME}://{api.context}/{api.namespace}/{name}"


def api_of(run: Run) -> Api:
    """The cluster that the run's handle names. Raises UsageError where the kubeconfig has no such context."""
    context, namespace, _ = run.handle.removeprefix(f"{SCHEME}://").rsplit("/", 2)
    api = Api(None if context == "in-cluster" else context, namespace)
    if api.context != context:  # the pod's own cluster has no name by which to ask for it from elsewhere
        raise UsageError(f"{run.handle}: of the cluster of the pod that submitted it\n    remedy: ask in such a pod")
    return api


class KubernetesBackend:
    """State from conditions, pods and events; logs from the pods."""

    scheme = SCHEME
    requeues = False

    def recover(self, handle: str) -> Run:
        """A run that the record does not know."""
        if handle.removeprefix(f"{SCHEME}://").count("/") < 2:
            raise UsageError(f"{handle}: not a Kubernetes handle\n    remedy: k8s://CONTEXT/NAMESPACE/NAME")
        return Run(handle, handle.rpartition("/")[2], run_dir="", log="")

    def by_place(self, runs: list[Run]) -> list[list[Run]]:
        """A place is a namespace of a cluster."""
        places = defaultdict(list)
        for run in runs:
            places[run.handle.rpartition("/")[0]].append(run)
        return list(places.values())

    def adopt(self, run: Run) -> Run | None:
        """The job that has the run's label."""
        api = api_of(run)
        with refusals.while_asking(api.context, api.namespace):
            selector = f"{RUN_LABEL}={run.label}"
            found = [job for kind in _kinds(run) for job in _found(api, kind, label_selector=selector)]
        if not found:
            return None
        return replace(run, handle=handle_of(api, found[0]["metadata"]["name"]), status=Status("PENDING"))

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """One list of jobs and one of pods for all runs of a namespace, and one of events where a job waits."""
        api = api_of(runs[0])
        with refusals.while_asking(api.context, api.namespace):
            return _statuses(api, runs)

    def require_here(self, run: Run) -> None:
        """Raises UsageError where the kubeconfig does not know the run's cluster."""
        api_of(run)

    def cancel(self, run: Run) -> None:
        """Delete the job, and with it pods and ConfigMap; return when its pods have ended, or soon will have."""
        api = api_of(run)
        with refusals.while_asking(api.context, api.namespace):
            if job := _its_job(api, run):
                api.delete(job["kind"], run.id)
                end = time.monotonic() + _ENDING_SECONDS
                while _pods_of(api, run) and time.monotonic() < end:
                    time.sleep(0.5)  # until then they write where the next job may
        if run.run_dir:
            (Path(run.run_dir) / _CANCELLED).touch()

    def keep_log(self, run: Run, say: Callable[[str], None]) -> None:
        """Save what the pods still have of their logs in the run's folder; here, where it has none."""
        api = api_of(run)
        with refusals.while_asking(api.context, api.namespace):
            if not (job := _its_job(api, run)):
                say("log: the job is not there any more")
                return
            # A job of this name may come again, and has a log of its own.
            path = Path(run.run_dir, KEPT) if run.run_dir else Path(f"{run.id}-{job['metadata']['uid'][:8]}-{KEPT}")
            logs.keep(api, _pods_of(api, run), path, say)

    def pause(self, run: Run, seconds: float) -> None:
        """Wait until something of the job changes."""
        end = time.monotonic() + seconds
        with suppress(Refused, SchedulerError):
            api = api_of(run)
            if job := _its_job(api, run):
                changes = api.changes(job["kind"], max(1, int(seconds)), field_selector=f"metadata.name={run.id}")
                next(changes, None)  # as it is now
                if next(changes, None):
                    return
        # Its time is up, or a watch cannot be had or held: asking anew at once would go round and round.
        time.sleep(max(0.0, end - time.monotonic()))

    def has_log(self, run: Run) -> bool:
        """Whether a container has begun, or what it wrote was kept."""
        if _kept(run):
            return True
        api = api_of(run)
        with refusals.while_asking(api.context, api.namespace):
            return any(logs.has_begun(pod) for pod in _pods_of(api, run))

    def log(
        self,
        run: Run,
        count: int | None,
        wanted: Callable[[str], bool],
        is_over: Callable[[], bool] | None,
        say: Callable[[str], None],
    ) -> Iterator[str]:
        """The last `count` wanted lines; with `is_over` what comes until then, too."""
        kept = _kept(run)
        if kept and _was_cancelled(run):  # whether or not the cluster can be asked
            yield from files.tail(kept, count, wanted)
            return
        api = api_of(run)
        with refusals.while_asking(api.context, api.namespace):
            if kept and not _pods_of(api, run):
                yield from files.tail(kept, count, wanted)
            elif is_over is None:
                yield from logs.tail(api, _pods_of(api, run), count, wanted, say)
            else:
                yield from logs.follow(api, lambda: _pods_of(api, run), count, wanted, is_over, say)


def _kept(run: Run) -> Path | None:
    path = Path(run.run_dir) / KEPT if run.run_dir else None
    return path if path and path.is_file() else None


def _was_cancelled(run: Run) -> bool:
    return bool(run.run_dir) and (Path(run.run_dir) / _CANCELLED).exists()


def _kinds(run: Run) -> list[str]:
    """What the run's job may be: what its folder holds, or either."""
    kinds = [kind for kind, name in MANIFESTS.items() if run.run_dir and (Path(run.run_dir) / name).is_file()]
    return kinds or list(MANIFESTS)


def _job(api: Api, kind: str, run: Run) -> Object | None:
    try:
        job = api.read(kind, run.id)
    except Refused as refused:
        if refused.code == 404:
            return None  # a kind that this cluster does not know
        raise
    return job if job and _is_of(run, job) else None


def _its_job(api: Api, run: Run) -> Object | None:
    """The run's job; None where it is gone, also where another run's job has its name by now."""
    return next(filter(None, (_job(api, kind, run) for kind in _kinds(run))), None)


def _is_of(run: Run, job: Object) -> bool:
    """Whether a job of the run's name, or its pod, is the run's: names come again.

    What was applied by hand has no such label, and no run folder; nor has a TrainJob's pod, which its job tells.
    """
    label = (job["metadata"].get("labels") or {}).get(RUN_LABEL, "")
    return not run.label or label == run.label or (not label and job["kind"] == "Pod")


def _statuses(api: Api, runs: list[Run]) -> dict[str, Status]:
    jobs, now = _jobs(api, runs), datetime.now(UTC)
    names: dict[str, list[str]] = defaultdict(list)
    for job in jobs.values():
        names[job["kind"]].append(job["metadata"]["name"])
    pods: dict[str, list[Object]] = defaultdict(list)
    for pod in _pods(api, names):
        pods[_job_name(pod)].append(pod)

    @cache  # asked for where a job waits, and then once
    def warnings() -> dict[str, list[Object]]:
        found = defaultdict(list)
        for event in api.find("Event", field_selector="type=Warning"):
            found[event["involvedObject"].get("name")].append(event)
        return found

    @cache
    def workloads() -> dict[str, Object]:
        return _workloads(api, [job["metadata"]["uid"] for job in jobs.values() if status.queue_of(job)])

    found = {}
    for run in runs:
        if run.handle not in jobs:
            found[run.handle] = _of_gone(run)
            continue
        found[run.handle] = status.of(
            jobs[run.handle], pods[run.id], lambda name: warnings().get(name, []), lambda uid: workloads().get(uid), now
        )
    return found


def _of_gone(run: Run) -> Status:
    """The state of a run that the cluster has forgotten: as cancelled here, or by what it left in its output folder."""
    if _was_cancelled(run):
        return replace(run.status, state="CANCELLED", reason="")
    if run.made(trained_folder.provenance(Path(run.output_dir))):
        return Status("COMPLETED", 0, f"as its results in {run.output_dir} say; the job is deleted")
    return _GONE  # most often the output is a pod's folder, which this machine does not see


def _jobs(api: Api, runs: list[Run]) -> dict[str, Object]:
    """Handle → job, of those that are there."""
    found: dict[str, Object] = {}
    for kind in MANIFESTS:
        due = [run for run in runs if run.handle not in found and kind in _kinds(run)]
        named = {job["metadata"]["name"]: job for job in _of_kind(api, kind, due)} if due else {}
        found |= {run.handle: named[run.id] for run in due if run.id in named and _is_of(run, named[run.id])}
    return found


def _of_kind(api: Api, kind: str, runs: list[Run]) -> list[Object]:
    if len(runs) == 1:
        job = _job(api, kind, runs[0])
        return [job] if job else []
    ids = [run.label for run in runs]
    # A run without a folder may have been applied by hand: then nothing but its name tells its job from others.
    return _found(api, kind, **({"label_selector": _selector(RUN_LABEL, ids)} if all(ids) else {}))


def _found(api: Api, kind: str, **selectors: str) -> list[Object]:
    """All of a kind; none of one that this cluster does not know."""
    try:
        return api.find(kind, **selectors)
    except Refused as refused:
        if refused.code == 404:
            return []
        raise


def _pods(api: Api, names: dict[str, list[str]]) -> list[Object]:
    """Those of the jobs (kind → names), perhaps among others."""
    return [
        pod
        for kind, some in names.items()
        for pod in api.find("Pod", label_selector=_selector(status.JOB_LABELS[kind], some))
    ]


def _pods_of(api: Api, run: Run) -> list[Object]:
    return [pod for pod in _pods(api, {kind: [run.id] for kind in _kinds(run)}) if _is_of(run, pod)]


def _selector(label: str, values: Iterable[str]) -> str:
    """Objects whose label is one of the values; where these are many, all that have the label."""
    listed = f"{label} in ({','.join(sorted(set(values)))})"
    return listed if len(listed) <= _LONGEST_SELECTOR else label


def _job_name(pod: Object) -> str:
    labels = pod["metadata"]["labels"]
    return next(str(labels[label]) for label in status.JOB_LABELS.values() if label in labels)


def _workloads(api: Api, uids: list[str]) -> dict[str, Object]:
    """Kueue's objects by the uid of their job; none where there is no right to see them."""
    try:
        found = api.find("Workload", label_selector=_selector(_JOB_UID, uids))
    except Refused:
        return {}
    return {one["metadata"]["labels"][_JOB_UID]: one for one in found}
