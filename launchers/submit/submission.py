"""One submission: copy the rendered files into a run folder, submit exactly these copies, and record the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..audit import provenance
from ..backends.base import ArrayBackend, Backend, Rendered, Say
from ..errors import LaunchError, LostJobError
from ..files import write_atomic
from ..runs import claim, processes, records, runfolder
from ..runs.records import Run, Status
from ..watch import states


def submit(rendered: Rendered, backend: Backend, say: Say, *, after: Sequence[Run] = (), pipeline: str = "") -> Run:
    """Submit a job. after: the runs that have to succeed first.

    If the scheduler refuses, the run's folder and record are removed. After a LostJobError they stay.
    """
    with _opened(rendered, backend, pipeline) as run:
        accepted = backend.submit(rendered, run, after, say)
    return _accepted(run, accepted)


def submit_array(
    array: Rendered,
    points: Mapping[int, Rendered],
    backend: ArrayBackend,
    say: Say,
    *,
    after: Sequence[Run],
    pipeline: str,
) -> dict[int, Run]:
    """Submit points of a sweep as one array of jobs: {its index in the array: its run}. As `submit`."""
    first = array.job
    with ExitStack() as stack:
        whole = stack.enter_context(runfolder.create(first, array.files, runfolder.new_id(first.family)))
        runs = {
            index: stack.enter_context(_opened(one, backend, pipeline, backend.folder_of_point(whole, index).name))
            for index, one in points.items()
        }
        accepted = backend.submit_array(array, whole, points, runs, after, say)
    return {index: _accepted(run, accepted[index]) for index, run in runs.items()}


def _accepted(run: Run, accepted: Run) -> Run:
    """The run that the scheduler has now, also in the record and in its claim."""
    named = replace(accepted, status=Status("PENDING"))
    records.replace_row(run.handle, named)
    claim.update(named)
    with suppress(OSError):
        (Path(run.run_dir) / states.SUBMITTER).unlink()
    return named


@contextmanager
def _opened(rendered: Rendered, backend: Backend, pipeline: str, name: str = "") -> Iterator[Run]:
    """A run that is about to be submitted, with its folder, its claim on the output folder, and its row in the record.

    name: its folder's, if that is not one of the job's own.

    These exist before the submission, so that a job whose submission is interrupted can be found again. If the
    scheduler refuses, they are removed.
    """
    job = rendered.job
    with runfolder.create(job, rendered.files, name) as folder:
        run = Run(
            handle=records.handle_before(backend.handle_prefix(job), folder.name),
            name=job.spec.name,
            run_dir=str(folder),
            log="",
            output_dir=job.output_path(rendered.target),
            job_file=str(job.path.resolve()),
            submitted_at=provenance.now(),
            pipeline=pipeline,
            status=Status("SUBMITTING"),
        )
        write_atomic(folder / states.SUBMITTER, json.dumps(processes.identity()))
        try:
            # Without a shared file system, output_dir is a path of the nodes: claim it only if it exists here too.
            if not rendered.preflight_only and (backend.shares_files or Path(run.output_dir).is_dir()):
                claim.take(run, _ended_owner(run.output_dir))
            records.save([run])
            yield run
        except LostJobError:
            raise
        except (LaunchError, OSError):
            records.forget(run.handle)
            claim.release(run)
            raise


def _ended_owner(folder: str) -> Run | None:
    """The run that claimed the folder before, if any. Raises UsageError if it has not ended."""
    previous = claim.owner(folder)
    if previous is None:
        return None
    unanswered: dict[str, LaunchError] = {}
    now = states.refresh([previous], unanswered)[0]
    if not (now.status.is_final or unanswered):  # if it could not be queried, `checks` has warned
        raise claim.taken_error(now, folder)
    return previous
