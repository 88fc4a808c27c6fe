"""The manifest of a checkpoint: the files it consists of, and whether they are still as they were written.

It is the last file that a checkpoint gets, so that a folder without it was never finished. No torch here.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

NAME = "manifest.json"
#: A path that does not lead out of its folder.
_INSIDE = r"^(?!/|(.*/)?\.\.(/|\Z))[^\0]+\Z"


class File(msgspec.Struct, frozen=True):
    """A file of a checkpoint. path: relative to its folder. digest: XXH3 of 128 bits. rank: the rank that wrote it."""

    path: Annotated[str, Meta(pattern=_INSIDE)]
    size: int
    digest: str
    rank: int


class Measured(msgspec.Struct, frozen=True):
    """What a trainer has measured since the last record, on one rank: `ResumedTrainer.measured`.

    finite: values by metric; None for one that is not finite, which JSON cannot hold. count: of tokens or steps.
    """

    finite: dict[str, list[float | None]]
    count: int

    @classmethod
    def of(cls, values: Mapping[str, Iterable[float]], count: int) -> Measured:
        """Keep these values."""
        kept = {name: [float(one) if math.isfinite(one) else None for one in each] for name, each in values.items()}
        return cls(kept, count)

    @property
    def values(self) -> dict[str, list[float]]:
        """The values; NaN for one that was not finite."""
        return {name: [math.nan if one is None else one for one in each] for name, each in self.finite.items()}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint is.

    records: those trained on so far. rows: those in the training data. processes: the world size. zero_stage: 0 for
    DDP. job: what decides what is learnt, as `sameness.of` gives it. unlogged: the sum of each rank's losses since the
    last step that was logged, `logged`. total_loss: the sum of the losses up to there. measured: each rank's
    other metrics since then. evaluation_due: the evaluation of this step was left, and is to be done again.
    """

    step: int
    epoch: float
    records: int
    rows: int
    processes: int
    zero_stage: int
    run_id: str
    job: dict[str, Any]
    written: str
    files: list[File]
    logged: int | None = None
    unlogged: list[float] = []
    total_loss: float | None = None
    measured: list[Measured | None] = []
    evaluation_due: bool = False

    @property
    def has_optimizer(self) -> bool:
        """Whether it can be resumed; with `train.save_only_model` only the weights were saved."""
        return any(file.path == "optimizer.pt" or file.path.endswith("_optim_states.pt") for file in self.files)


def read(folder: Path) -> Manifest | None:
    """A checkpoint's manifest; None if it has none that can be read."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Manifest)
    except (OSError, ValueError, RecursionError):
        return None


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a checkpoint whose files are all on disk, and bring it to disk, too."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    with (folder / NAME).open("wb") as file:
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync(folder)


def describe(folder: Path, path: Path, rank: int) -> File:
    """A file that was just written: bring it to disk, and meanwhile take its digest, from the page cache.

    Raises OSError, which is also how a full disk or a lost server is reported at the latest.
    """
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(sync, path)
        taken = digest(path)
        synced.result()
    return File(str(path.relative_to(folder)), path.stat().st_size, taken, rank)


def digest(path: Path) -> str:
    """XXH3 finds any accidental change at the speed of memory; SHA-256 would cost more than reading the file."""
    import xxhash  # `datasets` depends on it

    with path.open("rb") as file:
        new: Any = xxhash.xxh3_128
        return hashlib.file_digest(file, new).hexdigest()


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems know no fsync of folders.
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def missing(folder: Path, found: Manifest) -> str:
    """The first file of the manifest that is not there or has another size, in words; empty: none. Reads no file."""
    for file in found.files:
        try:
            size = (folder / file.path).stat().st_size
        except OSError as error:
            return f"{file.path}: {error.strerror}"
        if size != file.size:
            return f"{file.path} has {size} bytes, and {file.size} were written"
    return ""


def changed(folder: Path, found: Manifest, rank: int, processes: int) -> str:
    """As `missing`, but reads the files, of which each rank takes a share: its own, if there are as many as then."""
    for index, file in enumerate(found.files):
        reader = file.rank if processes == found.processes else index % processes
        if reader != rank:
            continue
        try:
            now = digest(folder / file.path)
        except OSError as error:
            return f"{file.path}: {error.strerror}"
        if now != file.digest:
            return f"{file.path} is not as it was written: its digest has changed"
    return ""
