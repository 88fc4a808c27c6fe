"""The second tier of checkpoints: a folder on the node's own disk or in its memory, where saving often costs little.

Each node has the files that its own processes wrote, and all have the same manifest, which lists the files of all. So
a checkpoint that only some of the nodes have, or not the same one, is none. No torch here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..config import Checkpoint
from ..errors import UserError
from ..processes.rendezvous import Rendezvous
from . import checkpoints, manifest
from .checkpoints import ASIDE, FAILED_STARTS, MAX_FAILED_STARTS
from .manifest import Manifest

#: So many are kept: while one is written, the one before stands on every node.
KEPT = 2
#: Nobody else may read, write or enter.
_OURS_ALONE = 0o077


class LocalTier:
    """This process's node's part of it, in a folder that is this run's and this node's alone."""

    def __init__(self, root: Path, every: int, output_dir: Path, place: Rendezvous) -> None:
        self.root, self.every = root, every
        #: The rank that writes for its node what only one process writes.
        self.first = place.rank - place.local_rank
        run = hashlib.sha256(f"{place.run_id}\0{output_dir.resolve()}".encode()).hexdigest()[:16]
        # With the node's place in the run, as the root of two nodes may turn out to be the same folder.
        self.home = root / f"alignlaunch-{run}" / f"node-{self.first}"

    def open(self) -> str:
        """Make the folder, without what a killed attempt had half written. Returns why it cannot be used, or ""."""
        try:
            for folder in (self.home.parent, self.home):
                with suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
                if fault := _foreign(folder):
                    return fault
            if (self.home / ASIDE).exists():
                shutil.rmtree(self.home / ASIDE)
        except OSError as error:
            return f"{error.filename or self.home}: {error.strerror}"
        return ""

    def held(self, processes: int, zero_stage: int) -> dict[int, str]:
        """The checkpoints here that so many processes could resume: by step the digest of the manifest."""
        found, failed = {}, checkpoints.failed_starts(self.home)
        for folder in checkpoints.folders(self.home):
            whole = manifest.read(folder) if failed[folder.name] < MAX_FAILED_STARTS else None
            if whole and (whole.processes, whole.zero_stage) == (processes, zero_stage):
                found[checkpoints.step(folder)] = hashlib.sha256((folder / manifest.NAME).read_bytes()).hexdigest()
        return found

    def folder(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.home / f"checkpoint-{step}"

    def require_room(self, size: int) -> None:
        """Raise UserError unless so many bytes, and as many as the last checkpoint here has, are free."""
        for last in checkpoints.folders(self.home)[-1:]:
            size = max(size, sum(path.stat().st_size for path in last.rglob("*") if path.is_file()))
        free = shutil.disk_usage(self.home).free
        if free < size:
            raise UserError(f"{self.home}: {free / 2**30:.2f} GiB are free, and a checkpoint takes {size / 2**30:.2f}")

    def publish(self, folder: Path, whole: Manifest) -> None:
        """Complete this node's part of a checkpoint and give it its name. Raises UserError."""
        try:
            manifest.write(folder, whole)
            final = self.folder(whole.step)
            shutil.rmtree(final, ignore_errors=True)
            folder.rename(final)
            manifest.sync(self.home)
            (self.home / FAILED_STARTS).unlink(missing_ok=True)  # there is progress
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror}") from error

    def keep(self, kept: Sequence[Path]) -> None:
        """Remove all other checkpoints."""
        for folder in checkpoints.folders(self.home):
            if folder not in kept:
                (folder / manifest.NAME).unlink(missing_ok=True)  # what is half removed is none
                shutil.rmtree(folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove all of this node's: the run is at its end."""
        shutil.rmtree(self.home, ignore_errors=True)
        with suppress(OSError):  # another node's may be there
            self.home.parent.rmdir()


def of(keys: Checkpoint | None, output_dir: Path, place: Rendezvous) -> LocalTier | None:
    """The tier that a job asks for; None: it asks for none."""
    if keys is None or keys.local is None or keys.local_every is None:
        return None
    return LocalTier(Path(keys.local), keys.local_every, output_dir, place)


def common(held: Sequence[dict[int, str]], after: int) -> list[int]:
    """The steps after this one of which all ranks hold the same checkpoint, newest first. held: of each rank."""
    first = held[0]
    return sorted(step for step in first if step > after and all(one.get(step) == first[step] for one in held))[::-1]


def _foreign(folder: Path) -> str:
    """Why a folder might hold what another user wrote; empty: it is ours alone. Follows no link."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is no folder"
    if found.st_uid != os.getuid():
        return f"{folder} belongs to user {found.st_uid}"
    if found.st_mode & _OURS_ALONE:
        return f"{folder} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""
