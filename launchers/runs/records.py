"""The user's record of runs: one row each in a small SQLite file. If it is lost, no job is: a handle is enough."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ..errors import UsageError
from ..paths import state_home

#: States after which nothing changes any more. Slurm's words; `local` and `k8s` use the same ones.
FINAL = frozenset(
    {
        *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED", "UNKNOWN"),
    }
)


_SUBMITTING = "submitting:"
#: How long another process may write to the record.
_TIMEOUT_SECONDS = 10.0


def handle_before(place: str, folder: str) -> str:
    """The handle of a run until its scheduler has named it. place: SCHEME://[CONTEXT/...], folder: its run folder's."""
    return f"{place}{_SUBMITTING}{folder}"


@dataclass(frozen=True)
class Status:
    """State of a run. exit_code: the job's own, if known; reason: as the scheduler gives it."""

    state: str
    exit_code: int | None = None
    reason: str = ""
    nodes: str = ""

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def is_permanent(self) -> bool:
        """Final for good: PREEMPTED may be requeued and UNKNOWN may be answered later, so those are asked for again."""
        return self.is_final and self.state not in ("UNKNOWN", "PREEMPTED")

    @property
    def process_code(self) -> int:
        """What `wait` exits with: the job's own code; 1 if it ended badly without one."""
        if self.state == "COMPLETED":
            return 0
        return self.exit_code or 1


@dataclass(frozen=True)
class Run:
    """One submission."""

    handle: str  # slurm://cluster/1234, local://id
    name: str
    run_dir: str
    log: str
    output_dir: str = ""
    job_file: str = ""
    submitted_at: str = ""
    pipeline: str = ""  # NAME/ID, the same for all runs of one submission of a pipeline
    status: Status = Status("UNKNOWN")

    @property
    def scheme(self) -> str:
        return self.handle.partition("://")[0]

    @property
    def id(self) -> str:
        """The last part of the handle: Slurm's job id, or the run's own id."""
        return self.handle.rpartition("/")[2]

    @property
    def submitted(self) -> datetime | None:
        """When it was submitted, in this machine's zone, which Slurm's own answer has already; None: not known."""
        try:
            return datetime.fromisoformat(self.submitted_at).astimezone()
        except (ValueError, OverflowError):
            return None

    @property
    def label(self) -> str:
        """The run's own id, as its processes and objects on Kubernetes have it; "" where its folder is not known."""
        return Path(self.run_dir).name.removeprefix(f"{self.name}-") if self.run_dir else ""

    def made(self, results: dict[str, Any]) -> bool:
        """Whether results are this run's: the `run_id` in their provenance is its folder, or its label in a pod."""
        made_by = Path(str(results.get("run_id") or "")).name
        return bool(self.run_dir) and made_by in (Path(self.run_dir).name, self.label)

    @property
    def is_submitting(self) -> bool:
        """Whether the scheduler had not given it a job id yet when this row was written."""
        return self.id.startswith(_SUBMITTING)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Run:
        """A run from its fields, as `asdict` gives them. Raises ValueError for those of another version, or none."""
        # `chain` until 0.1
        renamed = {"chain": "pipeline"}
        fields = {renamed.get(name, name): value for name, value in data.items()} if isinstance(data, dict) else data
        return msgspec.convert(fields, cls)

    def with_status(self, status: Status) -> Run:
        return replace(self, status=status)

    def as_json(self) -> dict[str, Any]:
        data = asdict(self)
        status = data.pop("status")
        return {**data, **status}


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    path = state_home() / "runs.sqlite"
    if not path.parent.exists():
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite would make it as the umask allows
    connection = sqlite3.connect(path, timeout=_TIMEOUT_SECONDS)
    try:
        with connection:  # one transaction
            connection.execute(
                "CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, handle TEXT UNIQUE, name TEXT, run TEXT)"
            )
            yield connection
    finally:
        connection.close()


def save(runs: list[Run]) -> None:
    """Add rows. A record that cannot be written is a warning: the job itself is well."""
    try:
        with _database() as database:
            database.executemany(
                "INSERT INTO runs (handle, name, run) VALUES (?, ?, ?)"
                " ON CONFLICT (handle) DO UPDATE SET run = excluded.run",
                [(run.handle, run.name, json.dumps(asdict(run))) for run in runs],
            )
    except (OSError, sqlite3.Error, UsageError) as error:  # UsageError: no home folder
        _warn(error)


def update(runs: list[Run]) -> None:
    """Update the rows of runs that are recorded. Other runs are not added: they may be another user's."""
    try:
        with _database() as database:
            rows = [(json.dumps(asdict(run)), run.handle) for run in runs]
            database.executemany("UPDATE runs SET run = ? WHERE handle = ?", rows)
    except (OSError, sqlite3.Error, UsageError) as error:
        _warn(error)


def replace_row(handle: str, run: Run) -> None:
    """Replace the row of `handle` by `run`. An older row with the run's own handle is deleted: job ids are reused."""
    try:
        with _database() as database:
            if handle != run.handle:
                database.execute("DELETE FROM runs WHERE handle = ?", (run.handle,))
            database.execute(
                "UPDATE runs SET handle = ?, name = ?, run = ? WHERE handle = ?",
                (run.handle, run.name, json.dumps(asdict(run)), handle),
            )
    except (OSError, sqlite3.Error, UsageError) as error:
        _warn(error)


def forget(handle: str) -> None:
    """Delete a row: nothing was submitted."""
    try:
        with _database() as database:
            database.execute("DELETE FROM runs WHERE handle = ?", (handle,))
    except (OSError, sqlite3.Error, UsageError) as error:
        _warn(error)


def _warn(error: Exception) -> None:
    """Only a warning: the job itself is not affected."""
    sys.stderr.write(f"alignlaunch: warning: the record of runs cannot be written ({error}); keep the handle\n")


def load(limit: int = 1000, name: str | None = None) -> list[Run]:
    """The latest runs, newest first, all or of one job."""
    order = "ORDER BY number DESC LIMIT ?"
    return _select(f"name = ? {order}", name, limit) if name else _select(f"TRUE {order}", limit)


def find(text: str) -> list[Run]:
    """The run of a handle, the latest of a job's name, or with "last" the latest of all; none if there is none.

    With a pipeline's or sweep's name, or where "last" is one of it: all its runs, in the order of their submission. So
    with the handle of an array without a task's number.
    """
    if "://" in text:
        return _select("handle = ?", text) or _select("instr(handle, ?) = 1 ORDER BY number", f"{text}_")
    if text == "last":
        latest = load(1)
    else:
        of_pipeline = "instr(json_extract(run, '$.pipeline') || '/', ? || '/') = 1"
        latest = _select(f"name = ? OR {of_pipeline} ORDER BY number DESC LIMIT 1", text, text)
    pipeline = latest[0].pipeline if latest else ""
    if pipeline and (text == "last" or f"{pipeline}/".startswith(f"{text}/")):
        return _select("json_extract(run, '$.pipeline') = ? ORDER BY number", pipeline)
    return latest


def _select(where: str, *values: Any) -> list[Run]:
    return [_run(row[0]) for row in _query(f"SELECT run FROM runs WHERE {where}", values)]  # noqa: S608 - constant


def _run(text: str) -> Run:
    try:
        return Run.from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> UsageError:
    path = state_home() / "runs.sqlite"
    busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
    remedy = (
        "try again: another alignlaunch writes to it, or the home's file system has no locks (then set XDG_STATE_HOME)"
        if busy
        else f"use handles; `mv {path} {path}.broken` begins a new record, and no job is lost with it"
    )
    return UsageError(f"{path}: the record of runs cannot be read ({error})\n    remedy: {remedy}")


def _query(sql: str, values: tuple[Any, ...]) -> list[Any]:
    path = state_home() / "runs.sqlite"
    if not path.exists():
        return []
    try:
        with _database() as database:
            return database.execute(sql, values).fetchall()
    except (OSError, sqlite3.Error) as error:
        raise _unreadable(error) from error
