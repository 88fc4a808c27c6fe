"""Find the objects of a run in its cluster: its job, its pods, and Kueue's workload."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...render.render import MANIFESTS
from ...runs.records import Run
from . import status
from .client import Api, Object, Refused
from .submission import RUN_LABEL

#: Label of a Kueue Workload: the uid of its job.
_JOB_UID = "kueue.x-k8s.io/job-uid"
#: Characters of the longest selector that lists names: proxies refuse URLs of more than about 8,000.
_LONGEST_SELECTOR = 4000


def kinds(run: Run) -> list[str]:
    """The kinds that the run's job may have: those of the manifests in its folder; all if there are none."""
    kinds = [kind for kind, name in MANIFESTS.items() if run.run_dir and (Path(run.run_dir) / name).is_file()]
    return kinds or list(MANIFESTS)


def _named(api: Api, kind: str, run: Run) -> Object | None:
    try:
        job = api.read(kind, run.id)
    except Refused as refused:
        if refused.code == 404:
            return None  # this cluster has no such kind
        raise
    return job if job and is_of(run, job) else None


def job_of(api: Api, run: Run) -> Object | None:
    """The run's job; None if it is gone, also if another run's job has its name by now."""
    return next(filter(None, (_named(api, kind, run) for kind in kinds(run))), None)


def is_of(run: Run, job: Object) -> bool:
    """Whether a job of the run's name, or a pod of it, is the run's own. Names are used again, so the label decides.

    A job applied by hand has no label, and its run no folder: then the name decides. Nor has a TrainJob's pod a label.
    """
    label = (job["metadata"].get("labels") or {}).get(RUN_LABEL, "")
    return not run.label or label == run.label or (not label and job["kind"] == "Pod")


def jobs_of(api: Api, runs: list[Run]) -> dict[str, Object]:
    """handle → job, for the jobs that exist."""
    found: dict[str, Object] = {}
    for kind in MANIFESTS:
        candidates = [run for run in runs if run.handle not in found and kind in kinds(run)]
        named = {job["metadata"]["name"]: job for job in _of_kind(api, kind, candidates)} if candidates else {}
        found |= {run.handle: named[run.id] for run in candidates if run.id in named and is_of(run, named[run.id])}
    return found


def _of_kind(api: Api, kind: str, runs: list[Run]) -> list[Object]:
    if len(runs) == 1:
        job = _named(api, kind, runs[0])
        return [job] if job else []
    ids = [run.label for run in runs]
    # A run without a folder may have been applied by hand, without our label: then list all jobs, to compare names.
    return find_all(api, kind, **({"label_selector": _selector(RUN_LABEL, ids)} if all(ids) else {}))


def find_all(api: Api, kind: str, **selectors: str) -> list[Object]:
    """All objects of a kind; none if this cluster has no such kind."""
    try:
        return api.find(kind, **selectors)
    except Refused as refused:
        if refused.code == 404:
            return []
        raise


def pods(api: Api, names: dict[str, list[str]]) -> list[Object]:
    """The pods of the jobs (kind → names); for many jobs, those of other jobs too."""
    return [
        pod
        for kind, some in names.items()
        for pod in api.find("Pod", label_selector=_selector(status.JOB_LABELS[kind], some))
    ]


def pods_of(api: Api, run: Run) -> list[Object]:
    return [pod for pod in pods(api, {kind: [run.id] for kind in kinds(run)}) if is_of(run, pod)]


def _selector(label: str, values: Iterable[str]) -> str:
    """Selects objects whose label has one of the values; if that gets too long, all with the label."""
    listed = f"{label} in ({','.join(sorted(set(values)))})"
    return listed if len(listed) <= _LONGEST_SELECTOR else label


def job_name(pod: Object) -> str:
    labels = pod["metadata"]["labels"]
    return next(str(labels[label]) for label in status.JOB_LABELS.values() if label in labels)


def workloads(api: Api, uids: list[str]) -> dict[str, Object]:
    """uid of a job → its Kueue Workload; empty without Kueue or the right to list them."""
    try:
        found = api.find("Workload", label_selector=_selector(_JOB_UID, uids))
    except Refused:
        return {}
    return {one["metadata"]["labels"][_JOB_UID]: one for one in found}
