"""Check a job's data before anything is submitted, with the readers that training uses.

To be quick, it reads the first 1000 records of each file, for about 5 seconds in total. Not checked here: data that
this machine does not see, hub data sets, and files above 64 MB that can only be read as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from alignlaunch.train.config import Role
from alignlaunch.train.data import sources
from alignlaunch.train.data.formats import images
from alignlaunch.train.data.formats.readers import READERS
from alignlaunch.train.data.formats.turns import FormatError, Record
from alignlaunch.train.data.sources import Item
from alignlaunch.train.errors import UserError

from ..errors import UsageError
from ..job.job import Job

RECORDS_PER_FILE = 1000
SECONDS = 5.0
DOCUMENT_BYTES = 64 << 20
#: How many bad records an error lists. All are counted.
LISTED = 20


class File(NamedTuple):
    """A data file that exists on this machine, and which of its records to take."""

    path: Path
    selection: sources.Selection


def check(job: Job) -> list[str]:
    """Notes and warnings about the job's data. Raises UsageError if training would fail because of it."""
    notes: list[str] = []
    unreadable: list[str] = []
    train, validation = (_files(job, role, unreadable) for role in ("train", "validation"))
    files = dict.fromkeys([*train, *validation])  # a file in both is read once
    count, bad, stop = 0, [], time.monotonic() + SECONDS
    for place, found in _items(files, job.spec.stage, unreadable, notes):
        if time.monotonic() > stop:
            notes.append(
                f"note: the data check ended after {SECONDS:.0f} s and {count} records; the nodes read them all"
            )
            break
        count += 1
        if problem := _problem(job, found):
            bad.append(f"{place}: {problem}")
    if files and not (count or unreadable or notes):
        unreadable.append(f"data.train: {', '.join(str(file.path) for file in files)}: there is not one record.")
    if unreadable:
        raise UsageError("\n".join([*unreadable, "nothing was written or submitted"]))
    if bad and not job.spec.data.skip_bad_records:
        more = [f"and {len(bad) - LISTED} more"] if len(bad) > LISTED else []
        remedy = "    remedy: correct or remove them, or skip them with `data.skip_bad_records: true`"
        summary = f"{len(bad)} of the {count} records that were read are bad; nothing was written or submitted"
        raise UsageError("\n".join([*bad[:LISTED], *more, remedy, summary]))
    if bad:
        notes.append(f"warning: {len(bad)} of the {count} records that were read are bad and will be skipped")
    return notes + _overlap(train, validation)


def _files(job: Job, role: Role, unreadable: list[str]) -> list[File]:
    found: list[File] = []
    for source in job.spec.data.sources(role):
        path = job.dir / source.path
        if not path.exists():
            continue
        try:
            files = sources.files(path, role, stage=job.spec.stage)
        except UserError as error:
            unreadable.append(str(error))
        else:
            found += [File(file, sources.Selection.of(source)) for file in files]
    return found


def _overlap(train: list[File], validation: list[File]) -> list[str]:
    learnt = {file.path.resolve() for file in train}
    both = [file.path for file in validation if file.path.resolve() in learnt]
    if not both:
        return []
    return [
        f"warning: data.validation: {len(both)} of its {len(validation)} files are in data.train too, such as {both[0]}"
        "\n    remedy: name other files, or hold out a part of data.train by `validation_share: 0.05` instead"
    ]


def _items(files: Iterable[File], stage: str, unreadable: list[str], notes: list[str]) -> Iterator[Item]:
    for path, selection in files:
        try:
            if path.suffix == ".parquet" and find_spec("pyarrow") is None:
                notes.append(f"note: {path} was not checked: pyarrow is not installed here")
            elif path.stat().st_size > DOCUMENT_BYTES and sources.is_one_piece(path):
                notes.append(
                    f"note: {path} was not checked: it is read as a whole, and larger than {DOCUMENT_BYTES >> 20} MB"
                )
            else:
                for place, found in islice(sources.read(path, selection), RECORDS_PER_FILE):
                    yield place, _located(found, path.parent, stage)
        except UserError as error:
            unreadable.append(str(error))


def _located(found: Record | FormatError, folder: Path, stage: str) -> Record | FormatError:
    """The record with absolute paths of its images, or the FormatError about them."""
    try:
        return found if isinstance(found, FormatError) else images.located(found, folder, stage)
    except FormatError as error:
        return error


def _problem(job: Job, found: Record | FormatError) -> FormatError | None:
    if isinstance(found, FormatError):
        return found
    try:
        READERS[job.spec.stage](found)
    except FormatError as error:
        return error
    return None
