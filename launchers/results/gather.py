"""All that is known of some runs, read at once: on every processor, where there is much to read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignlaunch.train import trained_folder
from alignlaunch.train.outputs import goodput as split
from alignlaunch.train.outputs import timeline
from alignlaunch.train.outputs.goodput import Goodput

from ..audit import provenance
from ..errors import LaunchError, UsageError
from ..job import yamlfile
from ..render.render import RESOLVED
from ..retry import history
from ..retry.history import Past
from ..runs import records as record_of_runs
from ..runs.records import Run
from ..watch import states
from . import places, records
from .records import Curves

#: Less than these bytes is read here sooner than other processes have started.
_MUCH = 16 << 20


@dataclass
class Result:
    """A run, or a trained folder that nothing more is known of.

    folder: where its results lie; None: not seen from here. job: resolved; empty if it cannot be read. made_from: its
    run.json. about: its provenance.json, once it has ended. notes: what is missing or odd, in words.
    """

    name: str
    handle: str
    state: str
    folder: Path | None = None
    curves: Curves = field(default_factory=Curves)
    job: dict[str, Any] = field(default_factory=dict)
    made_from: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    attempts: list[Past] = field(default_factory=list)
    goodput: Goodput | None = None
    notes: list[str] = field(default_factory=list)


def find(names: Sequence[str], unanswered: dict[str, LaunchError]) -> list[Run | Path]:
    """The runs of these names and handles with their present states, each once; a folder's path is that folder.

    unanswered: as in `states.refresh`. Raises UsageError.
    """
    found: dict[str, Run | Path] = {}
    for name in names:
        if "://" not in name and Path(name).is_dir() and not record_of_runs.find(name):
            found[name] = Path(name).resolve()
        else:
            found |= {run.handle: run for run in states.find(name)}
    fresh = states.refresh([one for one in found.values() if isinstance(one, Run)], unanswered)
    return list((found | {run.handle: run for run in fresh}).values())


def read(found: Sequence[Run | Path]) -> list[Result]:
    """What is known of each of them."""
    # The longest first, so that no processor waits for one that began late.
    sizes = {i: _size(one) for i, one in enumerate(found)}
    order = sorted(sizes, key=sizes.__getitem__, reverse=True)
    workers = min(len(os.sched_getaffinity(0)), len(found))
    if workers < 2 or sum(sizes.values()) < _MUCH:
        return [one(it) for it in found]
    try:
        with ProcessPoolExecutor(workers) as pool:
            done = dict(zip(order, pool.map(one, [found[i] for i in order]), strict=True))
    except BrokenProcessPool as error:
        raise LaunchError("a process that read records was killed\n    remedy: name fewer runs at once") from error
    return [done[i] for i in range(len(found))]


def one(found: Run | Path) -> Result:
    """What is known of a run, or of a trained folder."""
    result = _of_folder(found) if isinstance(found, Path) else _of_run(found)
    if result.folder is None:
        return result
    try:
        result.curves = records.read(result.folder / trained_folder.METRICS)
    except OSError as error:
        result.notes.append(f"{error.filename}: {error.strerror}")
    result.notes += _odd(result.curves)
    return result


def _of_run(run: Run) -> Result:
    folder, why = places.find(run)
    result = Result(run.name, run.handle, run.status.state, folder, notes=[why] if why else [])
    if run.run_dir:
        result.made_from = provenance.read(Path(run.run_dir))
        result.job = _job(Path(run.run_dir, RESOLVED), result.notes)
    if folder is not None and run.made(found := trained_folder.provenance(folder)):
        result.about = found
    result.attempts, result.goodput = history.read(run), history.goodput(run)
    return result


def _of_folder(folder: Path) -> Result:
    about = trained_folder.provenance(folder)
    made_from = about.get("run")
    result = Result(folder.name, str(folder), "", folder, about=about)
    result.made_from = made_from if isinstance(made_from, dict) else {}
    if text := about.get("job"):
        try:
            result.job = yamlfile.parse(text, str(folder / trained_folder.PROVENANCE)).data
        except UsageError as error:
            result.notes.append(str(error).splitlines()[0])
    trained = timeline.read(folder, about.get("run_id") or "")
    result.attempts, result.goodput = history.joined(trained, [], runs=False), split.of(trained)
    return result


def _job(path: Path, notes: list[str]) -> dict[str, Any]:
    if path.is_file():
        try:
            return yamlfile.read(path).data
        except UsageError as error:
            notes.append(str(error).splitlines()[0])
    else:
        notes.append(f"its job is not known: no {path}")
    return {}


def _odd(curves: Curves) -> list[str]:
    notes = [
        f"{name} is no number in {curve.unusable} of {curve.count} records, first after step {curve.unusable_from}"
        for name, curve in curves.of.items()
        if curve.unusable
    ]
    if curves.no_records:
        notes.append(f"{curves.no_records} lines of its metrics.jsonl are no records")
    if curves.names_left_out:
        notes.append(f"its metrics.jsonl has more than {len(curves.of)} names; the others are left out")
    return notes


def _size(found: Run | Path) -> int:
    folder = found if isinstance(found, Path) else Path(found.output_dir)
    try:
        return (folder / trained_folder.METRICS).stat().st_size
    except OSError:
        return 0
