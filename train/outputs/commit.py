"""Checkpoints that are whole or not there: written aside, brought to disk, described by a manifest, then renamed.

However a run is killed, each folder `checkpoint-N` is complete, and the one before it is removed only after that.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .. import trained_folder
from ..errors import UserError
from ..model.loading import zero_stage
from ..processes import sharing
from ..processes.rendezvous import Rendezvous
from . import manifest
from .checkpoints import ASIDE, FAILED_STARTS, STARTS, folders
from .manifest import File, Manifest
from .resumed import ResumedTrainer

#: Files of a checkpoint that a rank other than 0 writes: its random state, and its part of ZeRO's state.
_OF_A_RANK = re.compile(r"rng_state_(\d+)\.pth$|zero_pp_rank_(\d+)_")

#: Bytes: with fewer of them free, an error while a checkpoint is written is that of a full disk.
_FULL = 1 << 20


class About(NamedTuple):
    """What a checkpoint's manifest says of its run. records: those of one step. rows: those of the training data."""

    place: Rendezvous
    job: dict[str, Any]
    records: int
    rows: int


class CommittingTrainer(ResumedTrainer):
    """Mixin for a Trainer: its checkpoints are committed as above."""

    #: Set before training.
    about: About
    evaluation_due: bool
    _tr_loss: Any
    _globalstep_last_logged: int
    _aside: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or super()._get_output_dir(trial))  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save and commit a checkpoint. A collective. Raises UserError if it cannot be brought to disk."""
        place, output_dir = self.about.place, Path(self.args.output_dir)
        folder = output_dir / ASIDE / f"checkpoint-{self.state.global_step}"
        self._write(folder, model, trial)
        whole = self._whole(lambda: described(folder, place.rank))
        kept = self.kept()
        sharing.once(lambda: publish(folder, whole, self.args.save_total_limit, kept), output_dir, place)

    def kept(self) -> set[str]:
        """The names of checkpoints that stay however many are kept: the best one's."""
        best = self.state.best_global_step
        return {f"checkpoint-{best}"} if best else set()

    def _write(self, folder: Path, model: Any, trial: Any) -> None:
        """Write this rank's files of a checkpoint."""
        best = self.state.best_global_step
        # Transformers looks for the best one in the folder that it saves to.
        where = str(Path(self.args.output_dir) / f"checkpoint-{best}") if best else self.state.best_model_checkpoint
        self._aside = folder.parent
        try:
            with writing(folder):
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
        finally:
            self._aside = None
        if self.state.best_model_checkpoint != where:
            self.state.best_model_checkpoint = where
            if self.args.should_save:
                with writing(folder):
                    self.state.save_to_json(str(folder / "trainer_state.json"))

    def _whole(self, describe: Callable[[], list[File]]) -> Manifest:
        """The manifest of the checkpoint that all ranks have written, the same on each. A collective."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        parts = sharing.together(lambda: (describe(), self._tr_loss.item(), self.measured(), now))
        return Manifest(
            step=self.state.global_step,
            epoch=float(self.state.epoch or 0),
            records=self.state.global_step * self.about.records,
            rows=self.about.rows,
            processes=self.about.place.world_size,
            zero_stage=zero_stage(self.args),
            run_id=self.about.place.run_id,
            job=self.about.job,
            written=parts[0][3],
            files=[file for files, *_ in parts for file in files],
            logged=self._globalstep_last_logged,
            unlogged=[loss for _, loss, *_ in parts],
            total_loss=self._total_loss_scalar,
            measured=[measured for *_, measured, _ in parts],
            evaluation_due=self.evaluation_due,
        )


def described(folder: Path, rank: int, first: int = 0) -> list[File]:
    """This rank's files of a checkpoint, brought to disk. first: the rank that wrote those that one rank writes."""
    with writing(folder):
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and _writer(path, first) == rank)
        return [manifest.describe(folder, path, rank) for path in paths]


def _writer(path: Path, first: int) -> int:
    found = _OF_A_RANK.search(path.name)
    return int(found[1] or found[2]) if found else first


def publish(folder: Path, whole: Manifest, limit: int | None, kept: set[str]) -> None:
    """Complete a checkpoint and give it its name; then remove all but the last `limit` and those `kept`."""
    output_dir = folder.parent.parent
    final = output_dir / folder.name
    with writing(folder):
        trained_folder.share(*folder.glob("*.safetensors"))
        for place in [path for path in folder.rglob("*") if path.is_dir()]:
            manifest.sync(place)
        manifest.write(folder, whole)
        if final.exists():  # an attempt before was here; what this one computed takes its place
            _remove(final)
        folder.rename(final)
        manifest.sync(output_dir)
        others = [path for path in folders(output_dir) if path.name not in kept]
        for old in others[:-limit] if limit else []:
            _remove(old)
        for name in (STARTS, FAILED_STARTS):  # there is progress
            (output_dir / name).unlink(missing_ok=True)


def _remove(checkpoint: Path) -> None:
    """Take its name away first: a folder that is half removed must not look like a checkpoint."""
    doomed = checkpoint.parent / ASIDE / f"removed-{checkpoint.name}"
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises UserError if a file of the checkpoint cannot be written."""
    try:
        yield
    except OSError as error:
        raise _unsaved(folder, error) from error
    except Exception as error:  # those of torch and safetensors have no type of their own
        if shutil.disk_usage(folder.parent.parent).free > _FULL:
            raise
        raise _unsaved(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error


def _unsaved(folder: Path, error: OSError) -> UserError:
    remedy = "Make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend that"
    why = error.strerror or str(error)
    return UserError(f"{folder}: the checkpoint cannot be saved: {why}. {remedy}, and submit again.")
