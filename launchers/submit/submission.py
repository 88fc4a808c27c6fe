"""One submission: copy what was rendered into a run folder, hand exactly that to the scheduler, and record it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..audit import provenance
from ..backends.base import Backend, Rendered, Say
from ..errors import LaunchError, LostJobError
from ..files import write_atomic
from ..runs import claim, processes, records, runfolder
from ..runs.records import Run, Status
from ..watch import states


def submit(rendered: Rendered, backend: Backend, say: Say, *, after: Sequence[Run] = (), pipeline: str = "") -> Run:
    """Submit a job, to start after those runs. If it fails, neither a folder nor a record stays."""
    with _opened(rendered, backend, pipeline) as run:
        accepted = backend.submit(rendered, run, after, say)
    named = replace(accepted, status=Status("PENDING"))
    records.replace_row(run.handle, named)
    claim.update(named)
    with suppress(OSError):
        (Path(run.run_dir) / states.SUBMITTER).unlink()
    return named


@contextmanager
def _opened(rendered: Rendered, backend: Backend, pipeline: str) -> Iterator[Run]:
    """A run that is about to be submitted: its folder, its claim on the output folder, its row in the record.

    All of it exists before the scheduler is asked, so that no job of it is ever unknown; all of it is removed again
    where the scheduler refuses.
    """
    job = rendered.job
    with runfolder.create(job, rendered.files) as folder:
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
            # A folder on nodes that do not share this file system can be claimed only if it exists here too.
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
    """The run that had the folder before. Raises UsageError where it still has it."""
    had = claim.owner(folder)
    if had is None:
        return None
    unanswered: dict[str, LaunchError] = {}
    now = states.refresh([had], unanswered)[0]
    if not (now.status.is_final or unanswered):  # where nobody could be asked, the checks before have warned
        raise claim.taken(now, folder)
    return had
