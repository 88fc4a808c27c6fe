"""Folders of runs that ended long ago: what `alignlaunch gc` removes. Never an output folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..audit import provenance
from ..errors import LaunchError
from ..files import unwritable
from ..render.array import ARRAY
from ..runs import records
from ..runs.records import Run
from . import states

#: So many of the latest runs are looked through.
_MOST = 10_000


class Folder(NamedTuple):
    """A run's folder, what it holds in bytes, and seconds since something was written there."""

    path: Path
    name: str
    size: int
    age: float


def find(older_than: float) -> tuple[list[Folder], dict[str, LaunchError]]:
    """The folders of this user's runs that ended for good, with nothing written for so many seconds.

    Also the places that did not answer, by the handles of their runs: those runs stay.
    """
    unanswered: dict[str, LaunchError] = {}
    found = states.refresh(records.load(_MOST), unanswered)
    stay = {run.run_dir for run in found if run.handle in unanswered or not run.status.is_permanent}
    gone = [folder for run in found if run.run_dir not in stay and (folder := _folder(run, older_than))]
    return [*gone, *_arrays(gone, stay, older_than)], unanswered


def remove(folder: Folder) -> None:
    """Delete it. Raises UsageError if that cannot be done."""
    try:
        shutil.rmtree(folder.path)
    except OSError as error:
        raise unwritable(folder.path, error) from error


def _folder(run: Run, older_than: float) -> Folder | None:
    return _old(Path(run.run_dir), run.name, older_than) if run.run_dir else None


def _old(path: Path, name: str, older_than: float) -> Folder | None:
    """The folder if it is a run's, this user's own and old; None otherwise."""
    if path.is_symlink() or not provenance.read(path) or path.stat().st_uid != os.getuid():
        return None
    sizes = [one.lstat() for one in (path, *path.rglob("*"))]
    age = time.time() - max(one.st_mtime for one in sizes)
    return Folder(path, name, sum(one.st_size for one in sizes), age) if age > older_than else None


def _arrays(gone: list[Folder], stay: set[str], older_than: float) -> Iterator[Folder]:
    """The folders of arrays of which every point's folder goes."""
    paths = {folder.path for folder in gone}
    for path in sorted({Path(str(path).rpartition("-")[0]) for path in paths}):
        points = [one for one in path.parent.glob(f"{path.name}-*") if one.name[len(path.name) + 1 :].isdigit()]
        is_array = (path / ARRAY).is_file() and str(path) not in stay
        if is_array and {*points} <= paths and (whole := _old(path, path.name, older_than)):
            yield whole
