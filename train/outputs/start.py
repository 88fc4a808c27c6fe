"""Where an attempt starts from: the newest checkpoint that is whole, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..model.loading import zero_stage
from ..processes import sharing, spread
from ..processes.rendezvous import Rendezvous
from ..reporting import say
from . import checkpoints, manifest


def settle(args: Any, inputs: Sequence[str], place: Rendezvous) -> Path | None:
    """Make the output folder this run's. Returns the checkpoint to resume from; None: start afresh. A collective.

    args: the training arguments. inputs: models that the run reads. Raises UserError if the checkpoint that was asked
    for is not whole, or cannot be resumed by these processes.
    """
    output_dir, asked = Path(args.output_dir), args.resume_from_checkpoint
    attempt = checkpoints.Attempt(place.run_id, place.restart_count, place.restarts_uncounted)
    found = sharing.by_rank_0(lambda: checkpoints.candidates(output_dir, asked, attempt), place)
    resume = _newest_whole(found, place)
    if found and resume is None and asked:
        raise UserError(
            f"train.resume_from_checkpoint: no checkpoint is whole; the log says what each lacks. Remove the key to "
            f"start afresh; what is in {output_dir} is then set aside.",
            everywhere=True,
        )
    aside = sharing.by_rank_0(lambda: checkpoints.claim(output_dir, resume, attempt, inputs), place)
    if aside:
        say(f"set aside in {aside}: what an earlier run left in {output_dir}")
    if resume:
        seen = spread.gather(checkpoints.zero_files(resume))  # nodes may have separate output folders
        checkpoints.refuse_other_split(resume, set().union(*seen), zero_stage(args), place.world_size)
    say(f"resuming from {resume}" if resume else "starting afresh")
    return resume


def _newest_whole(found: list[Path], place: Rendezvous) -> Path | None:
    """The first of these checkpoints whose files are all as they were written. A collective."""
    for folder in found:
        fault = next(filter(None, spread.gather(_fault(folder, place))), "")
        if not fault:
            if manifest.read(folder) is None:
                say(f"{folder} has no {manifest.NAME}, so its files cannot be checked: alignlaunch did not write it")
            return folder
        say(f"{folder} is broken and is passed over: {fault}")
    return None


def _fault(folder: Path, place: Rendezvous) -> str:
    whole = manifest.read(folder)
    return manifest.changed(folder, whole, place.rank, place.world_size) if whole else ""
