"""Runs on Kubernetes: submit, watch and cancel them. A run's handle names the kubeconfig context of its cluster."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from alignlaunch.train import trained_folder

from ...audit import drift, provenance
from ...errors import SchedulerError, UsageError
from ...files import write_atomic
from ...job.job import Job
from ...render import k8s_lint
from ...render.manifests import load_manifests
from ...render.render import Target
from ...runs import bad_nodes, runfolder
from ...runs.records import Run, Status
from .. import logfile as files
from ..base import IsOver, Rendered, Say, Wanted
from . import inside, logs, objects, refusals, status, submission
from .client import Api, Object, Refused
from .submission import RUN_LABEL

SCHEME = "k8s"
#: File in the run's folder: the pods' logs, saved before the pods were deleted.
KEPT = "pods.log"
#: Seconds to wait for deleted pods: more than the default terminationGracePeriodSeconds of 30.
_ENDING_SECONDS = 40.0
_CANCELLED = "cancelled"  # a file in the run's folder
_GONE = Status("UNKNOWN", reason="the cluster has no such job any more: deleted by hand, or by its ttl")


def handle_of(api: Api, name: str) -> str:
    return f"{SCHEME}://{api.context}/{api.namespace}/{name}"


def api_of(run: Run) -> Api:
    """The API of the cluster that the run's handle names. Raises UsageError if the kubeconfig has no such context."""
    context, namespace, _ = _place(run)
    api = Api(None if context == "in-cluster" else context, namespace)
    if api.context != context:  # "in-cluster" means the submitting pod's own cluster, which has no name elsewhere
        raise UsageError(f"{run.handle}: of the cluster of the pod that submitted it\n    remedy: ask in such a pod")
    return api


def _place(run: Run) -> list[str]:
    """[context, namespace, name] of its handle."""
    return run.handle.removeprefix(f"{SCHEME}://").rsplit("/", 2)


class KubernetesBackend:
    """State from the job's conditions, pods and events; logs from the pods."""

    scheme = SCHEME
    target: Target = "k8s"
    orders_jobs = False
    shares_files = False
    requeues = False
    labels_tasks = False

    def __init__(
        self, *, context: str | None = None, namespace: str | None = None, require_digest: bool = False
    ) -> None:
        """context, namespace: for submissions. Default: the current context; the job's, else the context's."""
        self._context, self._namespace, self._require_digest = context, namespace, require_digest

    def check(self, rendered: Rendered, say: Say) -> None:
        if left_out := bad_nodes.names(rendered.job.cluster.bad_nodes):
            say(f"without {', '.join(left_out)}: found faulty; `alignlaunch nodes` tells more")
        if self._require_digest:
            k8s_lint.require_digest(rendered.job, rendered.files)

    def script(self, rendered: Rendered) -> str:
        return "".join(f"---\n{text}" for name, text in rendered.files.items() if name.endswith(".yaml"))

    def dry_run(self, rendered: Rendered) -> str:
        try:
            api = self._api(rendered.job)
        except UsageError as error:
            if self._context:
                raise
            return f"no cluster here ({str(error).splitlines()[0]}): rendered and validated only"
        without = bad_nodes.names(rendered.job.cluster.bad_nodes)
        with TemporaryDirectory(prefix="alignlaunch-") as scratch:
            drift.write(Path(scratch), rendered.files)
            submission.check(api, submission.stamped(api, load_manifests(Path(scratch)), "dry-run", without))
        return f"the API server of context {api.context} would take it into namespace {api.namespace}"

    def handle_prefix(self, job: Job) -> str:
        return handle_of(self._api(job), "")

    def submit(self, rendered: Rendered, run: Run, after: Sequence[Run], say: Say) -> Run:
        """Create the objects of the manifests in the cluster, with new names if one of theirs is taken."""
        del after
        job, folder, api = rendered.job, Path(run.run_dir), self._api(rendered.job)
        command = ["kubectl", f"--context={api.context}", f"--namespace={api.namespace}", "create", "-f", str(folder)]
        about = provenance.describe(job, self.target, rendered.files, command, suspended=rendered.suspended)
        runfolder.write_provenance(folder, about)
        manifests = load_manifests(folder)
        if rendered.preflight_only:
            submission.make_preflight_only(manifests)
        if rendered.suspended:
            submission.suspend(manifests)
        without = bad_nodes.names(job.cluster.bad_nodes)
        name, stored = submission.submit(api, manifests, run.label, say, without)
        try:
            write_atomic(folder / submission.STORED, json.dumps(stored, indent=2) + "\n")
        except OSError as error:  # the job is in the cluster: an exception would remove its run's folder and record
            say(f"warning: {folder / submission.STORED}: not written: {error.strerror}")
        return replace(run, handle=handle_of(api, name))

    def _api(self, job: Job) -> Api:
        return Api(self._context, self._namespace or (job.spec.k8s.namespace if job.spec.k8s else None))

    def has_queue(self, job: Job) -> bool:
        return bool(job.spec.k8s and job.spec.k8s.queue)

    def waits_for_its_turn(self, run: Run) -> bool:
        return run.status.state == "PENDING" and run.status.reason == status.SUSPENDED

    def release(self, run: Run) -> None:
        api = api_of(run)
        with refusals.while_querying(api.context, api.namespace):
            if job := objects.job_of(api, run):
                api.patch(job["kind"], run.id, {"spec": submission.suspension(job["kind"], on=False)})

    def options_of(self, run: Run) -> dict[str, str]:
        context, namespace, _ = _place(run)
        return {} if context == "in-cluster" else {"context": context, "namespace": namespace}

    def recover(self, handle: str) -> Run:
        """A run that is not in the record: its handle is all that is known."""
        if handle.removeprefix(f"{SCHEME}://").count("/") < 2:
            raise UsageError(f"{handle}: not a Kubernetes handle\n    remedy: k8s://CONTEXT/NAMESPACE/NAME")
        return Run(handle, handle.rpartition("/")[2], run_dir="", log="")

    def by_place(self, runs: list[Run]) -> list[list[Run]]:
        """A group for each namespace of a cluster."""
        places = defaultdict(list)
        for run in runs:
            places[run.handle.rpartition("/")[0]].append(run)
        return list(places.values())

    def adopt(self, run: Run) -> Run | None:
        """The run, with the handle of the job that has its label."""
        api = api_of(run)
        with refusals.while_querying(api.context, api.namespace):
            selector = f"{RUN_LABEL}={run.label}"
            found = [job for kind in objects.kinds(run) for job in objects.find_all(api, kind, label_selector=selector)]
        if not found:
            return None
        return replace(run, handle=handle_of(api, found[0]["metadata"]["name"]), status=Status("PENDING"))

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        """One list of jobs and one of pods for all runs of a namespace; one of events only if a reason needs them."""
        api = api_of(runs[0])
        with refusals.while_querying(api.context, api.namespace):
            return _statuses(api, runs)

    def require_here(self, run: Run) -> None:
        """Raise UsageError if the kubeconfig has no context for the run's cluster."""
        api_of(run)

    def cancel(self, run: Run) -> None:
        """Delete the job, and with it its pods and ConfigMap; wait up to _ENDING_SECONDS until the pods are gone."""
        api = api_of(run)
        with refusals.while_querying(api.context, api.namespace):
            if job := objects.job_of(api, run):
                api.delete(job["kind"], run.id)
                end = time.monotonic() + _ENDING_SECONDS
                while objects.pods_of(api, run) and time.monotonic() < end:
                    time.sleep(0.5)  # until then they may write to the output folder
        if run.run_dir:
            (Path(run.run_dir) / _CANCELLED).touch()

    def keep_log(self, run: Run, say: Say) -> None:
        """Save the logs that the pods still have in the run's folder; in the working directory if it has no folder."""
        api = api_of(run)
        with refusals.while_querying(api.context, api.namespace):
            if not (job := objects.job_of(api, run)):
                say("log: the job is not there any more")
                return
            # With the uid: a later job of the same name gets another file.
            path = Path(run.run_dir, KEPT) if run.run_dir else Path(f"{run.id}-{job['metadata']['uid'][:8]}-{KEPT}")
            logs.keep(api, objects.pods_of(api, run), path, say)

    def shell(self, run: Run, node: int, command: Sequence[str], *, terminal: bool) -> list[str]:
        api = api_of(run)
        with refusals.while_querying(api.context, api.namespace):
            return inside.command(api, objects.pods_of(api, run), node, command, terminal=terminal)

    def pause(self, run: Run, seconds: float) -> None:
        """Wait until the job changes, at most for `seconds`."""
        end = time.monotonic() + seconds
        with suppress(Refused, SchedulerError):
            api = api_of(run)
            if job := objects.job_of(api, run):
                changes = api.changes(job["kind"], max(1, int(seconds)), field_selector=f"metadata.name={run.id}")
                next(changes, None)  # the first event is its present state
                if next(changes, None):
                    return
        # If the watch failed or ended early, wait for the rest of the time: the caller must not poll without a pause.
        time.sleep(max(0.0, end - time.monotonic()))

    def has_log(self, run: Run) -> bool:
        """Whether a container has started, or its log was saved."""
        if _kept(run):
            return True
        api = api_of(run)
        with refusals.while_querying(api.context, api.namespace):
            return any(logs.has_begun(pod) for pod in objects.pods_of(api, run))

    def why_no_log(self, run: Run) -> str:
        if not run.status.is_final:
            return files.NO_LOG_YET
        return (
            "no log any more: its pods are gone, and nobody kept it\n"
            f"    remedy: see {run.output_dir or 'its output_dir'}/logs, where that is mounted: what each process wrote"
        )

    def log(self, run: Run, count: int | None, wanted: Wanted, is_over: IsOver | None, say: Say) -> Iterator[str]:
        """The last `count` wanted lines; with `is_over` also every later line until it is true."""
        kept = _kept(run)
        if kept and _was_cancelled(run):  # even if the cluster does not answer
            yield from files.tail(kept, count, wanted)
            return
        api = api_of(run)
        with refusals.while_querying(api.context, api.namespace):
            if kept and not objects.pods_of(api, run):
                yield from files.tail(kept, count, wanted)
            elif is_over is None:
                yield from logs.tail(api, objects.pods_of(api, run), count, wanted, say)
            else:
                yield from logs.follow(api, lambda: objects.pods_of(api, run), count, wanted, is_over, say)


def _kept(run: Run) -> Path | None:
    path = Path(run.run_dir) / KEPT if run.run_dir else None
    return path if path and path.is_file() else None


def _was_cancelled(run: Run) -> bool:
    return bool(run.run_dir) and (Path(run.run_dir) / _CANCELLED).exists()


def _statuses(api: Api, runs: list[Run]) -> dict[str, Status]:
    jobs, now = objects.jobs_of(api, runs), datetime.now(UTC)
    names: dict[str, list[str]] = defaultdict(list)
    for job in jobs.values():
        names[job["kind"]].append(job["metadata"]["name"])
    pods: dict[str, list[Object]] = defaultdict(list)
    for pod in objects.pods(api, names):
        pods[objects.job_name(pod)].append(pod)

    @cache  # queried at most once, and only if a reason needs them
    def warnings() -> dict[str, list[Object]]:
        found = defaultdict(list)
        for event in api.find("Event", field_selector="type=Warning"):
            found[event["involvedObject"].get("name")].append(event)
        return found

    @cache
    def workloads() -> dict[str, Object]:
        return objects.workloads(api, [job["metadata"]["uid"] for job in jobs.values() if status.queue_of(job)])

    found = {}
    for run in runs:
        if run.handle not in jobs:
            found[run.handle] = _status_of_deleted(run)
            continue
        found[run.handle] = status.of(
            jobs[run.handle], pods[run.id], lambda name: warnings().get(name, []), lambda uid: workloads().get(uid), now
        )
    return found


def _status_of_deleted(run: Run) -> Status:
    """The state of a run whose job is not in the cluster any more, from the run's folder and its output folder."""
    if _was_cancelled(run):
        return replace(run.status, state="CANCELLED", reason="")
    if run.made(trained_folder.provenance(Path(run.output_dir))):
        return Status("COMPLETED", 0, f"as its results in {run.output_dir} say; the job is deleted")
    return _GONE  # usual: the output is on a volume that this machine does not see
