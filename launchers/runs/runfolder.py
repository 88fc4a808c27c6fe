"""Each submission's own folder: copies of its artifacts, its provenance, its log. Later edits cannot reach it."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ..audit import drift, provenance
from ..errors import LaunchError, LostJobError
from ..files import make_private, unwritable, write_atomic
from ..job.job import Job
from .records import Run


def new_id(name: str) -> str:
    """`<job name>-<local time>-<four random digits>`: sorts by time, differs within a second."""
    return f"{name}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@contextmanager
def create(job: Job, files: dict[str, str], name: str = "") -> Iterator[Path]:
    """A new run folder, for this user alone, with copies of `files`. If nothing was submitted, it is deleted again.

    name: the folder's; by default one of the job's own.

    It stays after a LostJobError, and after whatever else may come when the scheduler already has the job.
    """
    runs = (job.dir / job.cluster.runs_dir).resolve()
    folder = runs / (name or new_id(job.spec.name))
    try:
        make_private(folder)
        if not (runs / ".gitignore").exists():
            write_atomic(runs / ".gitignore", "*\n")
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        drift.write(folder, files)
        yield folder
    except (LaunchError, OSError) as error:
        if not isinstance(error, LostJobError):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def write_provenance(folder: Path, data: dict[str, Any]) -> None:
    """Keep `data` as run.json, where the entrypoint finds it and copies it into the trained output."""
    try:
        write_atomic(folder / provenance.FILE, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise unwritable(folder, error) from error


def folder_of_job(run: Run) -> str:
    """The folder of its job file, where its processes started; "" if that is not known."""
    job_file = provenance.read(Path(run.run_dir)).get("job_file") if run.run_dir else run.job_file
    return str(Path(job_file).parent) if job_file else ""


def exit_code(folder: Path) -> int | None:
    """What the script itself wrote when it ended; None while it runs, or if it was killed."""
    try:
        return int((folder / "exit_code").read_text())
    except (OSError, ValueError):
        return None


def exit_time(folder: Path) -> float | None:
    """When the script wrote its exit code, in seconds since 1970; None if it did not."""
    try:
        return (folder / "exit_code").stat().st_mtime
    except (OSError, ValueError):
        return None


def follower(folder: Path) -> str:
    """The id of the job that goes on with the run now, where Slurm did not requeue the first one; "" without one."""
    try:
        return (folder / "followers").read_text(encoding="utf-8", errors="replace").split()[-1]
    except (OSError, IndexError):
        return ""
