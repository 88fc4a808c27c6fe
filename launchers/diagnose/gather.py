"""Read everything that a run left, or a folder of copied logs, into one scan."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..audit import provenance
from ..backends import registry
from ..backends.base import Say
from ..errors import LaunchError, UsageError
from ..runs import records, runfolder
from ..runs.records import Run, Status
from ..watch import states
from . import failures, flight, lines
from .lines import Line, Source
from .scan import Scan

#: Bytes to read of all logs of a folder together, and the minimum for each of them.
_BUDGET, _LEAST = 64 << 20, 1 << 18
_MOST_FILES = 4096
_LOGS = {".log", ".out", ".err", ".txt", ""}
_REMEDY = "copy the logs of all nodes there (*.out, *.log, *.err, *.txt)"


@dataclass
class Evidence:
    """What was found of one run."""

    name: str
    scan: Scan = field(default_factory=Scan)
    status: Status | None = None  # None: no scheduler was asked
    made_from: dict[str, Any] = field(default_factory=dict)  # run.json
    notes: list[str] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # why → files

    def read(self, files: dict[str, Path]) -> None:
        """Scan log files. files: name to show → path."""
        most = min(lines.MOST, max(_LEAST, _BUDGET // max(1, len(files))))
        sources = lines.sources(files)
        cut = []
        for name, path in files.items():
            log = Scan(self.scan.count)
            try:
                if path.stat().st_size > most:
                    cut.append(name)
                log.feed(lines.of_file(path, name, sources[name], most))
            except OSError as error:
                self.add_unreadable(name, error)
            log.close()
            self.scan.add(log)
        if cut:
            self.notes.append(f"{_some(cut)}: read {_ends(most)} alone")

    def add_unreadable(self, name: str, error: OSError) -> None:
        """Record a file or folder that cannot be read."""
        self.unread[error.strerror or str(error)].append(name)

    def close(self) -> None:
        """After all logs: scan the scheduler's status as the last line, and note what could not be read."""
        self.scan.close()
        self.notes += [f"{_some(names)}: cannot be read ({why})" for why, names in self.unread.items()]
        if self.status:
            status = self.status
            code = f" exit code {status.exit_code}" if status.exit_code else ""
            text = f"scheduler: {status.state}{code}" + (f" ({status.reason})" if status.reason else "")
            self.scan.feed([Line(Source(None, "scheduler"), text, "status")])

    def read_dumps(self, folder: Path, since: float = 0.0) -> None:
        """Note what the flight recorder's dumps in a folder show. Dumps older than `since` are of an earlier run."""
        try:
            if folder.is_dir():
                dumps = {rank: path for rank, path in flight.dumps(folder).items() if path.stat().st_mtime >= since}
                self.notes += flight.report(dumps)
        except OSError as error:  # of the folder, such as a pod's; `flight.report` notes bad dumps itself
            self.add_unreadable(str(folder), error)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _ends(most: int) -> str:
    head, tail = (f"{size / 2**20:.3g} MiB" for size in lines.ends(most))
    return f"the first {head} and the last {tail}"


def find(text: str, say: Say) -> list[Evidence]:
    """The evidence of a run (handle, name of a job or pipeline, "last"), or of a folder or file of logs.

    Raises UsageError, SchedulerError.
    """
    path = Path(text)
    if "://" not in text and not records.find(text) and (path.exists() or "/" in text):
        return [_of_path(path)]
    unanswered: dict[str, LaunchError] = {}
    found = []
    for run in states.refresh(states.find(text), unanswered):
        found.append(_of_run(run, say))
        if error := unanswered.get(run.handle):
            found[-1].notes.append(f"the state is the last known one: {str(error).splitlines()[0]}")
    return found


def _of_run(run: Run, say: Say) -> Evidence:
    found = Evidence(run.handle, status=run.status)
    found.made_from = provenance.read(Path(run.run_dir)) if run.run_dir else {}
    if run.status.state != "PENDING":  # the log of an earlier attempt does not tell why it is pending
        if run.log:
            found.read({Path(run.log).name: Path(run.log)})
        else:
            found.scan.feed(_of_backend(run, found, say))
        since = run.submitted.timestamp() if run.submitted else 0.0
        for folder in filter(None, (run.run_dir, run.output_dir)):
            found.read_dumps(Path(folder), since)
    found.close()
    return found


def _of_backend(run: Run, found: Evidence, say: Say) -> Iterator[Line]:
    """The lines of a run without a log file, from its backend: those of pods."""
    before = 0
    for number, text in lines.of_stream(_answers(run, found, say)):
        if number > before + 1:
            found.notes.append(f"log: {number - before - 1} lines between {_ends(lines.MOST)} were left out")
        yield lines.split(text, Source(None, ""), f"log:{number}")
        before = number


def _answers(run: Run, found: Evidence, say: Say) -> Iterator[str]:
    """The log's lines from the backend. If it fails halfway, the failure becomes a note."""
    try:
        for text in registry.of(run.scheme).log(run, None, lambda _: True, None, say):
            yield text.rstrip("\n")[: lines.LONGEST_LINE]
    except (LaunchError, OSError) as error:
        found.notes.append(f"log: cannot be read ({str(error).splitlines()[0]})")


def _of_path(path: Path) -> Evidence:
    """A folder of logs, one run's or copied from anywhere; or one file."""
    if not path.exists():
        raise UsageError(
            f"{path}: no such file or folder\n    remedy: name a run (`alignlaunch list`) or a folder of logs"
        )
    found = Evidence(str(path))
    if path.is_file():
        found.read({path.name: path})
    else:
        _read_folder(path, found)
    found.close()
    if not found.scan.count:
        what = f"cannot be read ({next(iter(found.unread))})" if found.unread else "the log is empty"
        raise UsageError(f"{path}: {what}\n    remedy: {_REMEDY}")
    return found


def _read_folder(folder: Path, found: Evidence) -> None:
    logs, records = {}, []
    paths = heapq.nsmallest(_MOST_FILES + 1, folder.rglob("*"))
    if len(paths) > _MOST_FILES:
        found.notes.append(f"{folder}: of more than {_MOST_FILES} files and folders only the first were looked at")
    several = lines.several_agents(paths)
    for path in paths[:_MOST_FILES]:
        name = path.relative_to(folder).as_posix()
        try:
            if not path.is_file() or name in ("exit_code", "task_exit_codes"):
                continue
            if path.suffix == ".json":
                rank = lines.rank_of(path, name, several)
                if failure := failures.of_error_file(path, rank, name if rank is None else ""):
                    records.append((failure, name))
            elif path.suffix in _LOGS and not flight.is_dump(path) and not _is_binary(path):
                logs[name] = path
        except OSError as error:
            found.add_unreadable(name, error)
    if not logs and not records and not found.unread:
        raise UsageError(f"{folder}: holds no log\n    remedy: {_REMEDY}")
    found.made_from = provenance.read(folder)
    found.read(logs)
    for failure, name in records:
        found.scan.add_failure(failure, name)
    for place in dict.fromkeys([folder, *(path.parent for path in logs.values())]):
        found.read_dumps(place)
    code = runfolder.exit_code(folder)
    if code is not None:
        found.status = Status("COMPLETED" if code == 0 else "FAILED", code)


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" in file.read(4096)
