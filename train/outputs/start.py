"""Where an attempt starts from: the newest checkpoint of the same job that is whole, or nothing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import trained_folder
from ..config import TrainConfig, checkpoint_named
from ..errors import UserError
from ..model.loading import zero_stage
from ..processes import sharing, spread
from ..processes.rendezvous import Rendezvous, is_elastic
from ..reporting import say
from . import checkpoints, local_tier, manifest, sameness, universal
from .local_tier import LocalTier


class Start(NamedTuple):
    """Where an attempt starts from.

    checkpoint: the one to resume from; None: start afresh. source: the folder to load, which is another one if
    it had to be converted. saved: its manifest; None: it has none. token: names this attempt, the same on every rank.
    """

    checkpoint: Path | None
    source: Path | None
    saved: manifest.Manifest | None
    token: str
    #: The second tier of checkpoints; None: there is none.
    tier: LocalTier | None = None


def settle(job: TrainConfig, args: Any, inputs: Sequence[str], place: Rendezvous) -> Start:
    """Make the output folder this run's, and choose where it starts. A collective.

    args: the training arguments. inputs: models that the run reads. Raises UserError if the checkpoint that was asked
    for is not whole, or cannot be resumed by these processes.
    """
    output_dir = Path(args.output_dir)
    attempt = checkpoints.Attempt(place.run_id, place.restart_count, place.restarts_uncounted)
    found = sharing.by_rank_0(lambda: candidates(job, args, attempt), place)
    resume = _newest_whole(found, place)
    if resume is None and found and _named(job, args) is not None:
        raise UserError(f"resume: {found[0]} cannot be resumed; the log says why. Name another.", everywhere=True)
    if resume is None and args.resume_from_checkpoint is True and place.restart_count == 0:
        raise UserError(
            f"train.resume_from_checkpoint: true, but {output_dir} holds no complete checkpoint. Remove the key to "
            "start afresh.",
            everywhere=True,
        )
    if not is_elastic(os.environ):  # there each node that joins begins an attempt, and the launcher limits restarts
        sharing.by_rank_0(lambda: checkpoints.record_start(output_dir, attempt), place)
    goes_on = sharing.by_rank_0(lambda: attempt.is_restart(output_dir), place)
    tier = _opened(local_tier.of(job.checkpoint, output_dir, place), place)
    nearer = _newer(tier, resume, zero_stage(args), place) if tier and goes_on else None
    aside = sharing.by_rank_0(lambda: checkpoints.claim(output_dir, resume, attempt, inputs), place)
    if aside:
        say(f"set aside in {aside}: what an earlier run left in {output_dir}")
    resume = nearer or resume
    if tier:  # the rest would not fit the metrics, which are those up to the start
        sharing.together(lambda: tier.keep([nearer] if nearer else []) if place.local_rank == 0 else None)
    source = resume
    if resume:
        _refuse_foreign(resume, output_dir)
        source = _fitting(resume, output_dir, args, place)
    say(f"resuming from {resume}" if resume else "starting afresh")
    saved = manifest.read(resume) if resume else None
    return Start(resume, source, saved, sharing.by_rank_0(lambda: secrets.token_hex(4), place), tier)


def _opened(tier: LocalTier | None, place: Rendezvous) -> LocalTier | None:
    """The second tier, if each node can use its part. A collective."""
    if tier is None:
        return None
    fault = next(filter(None, spread.gather(tier.open() if place.local_rank == 0 else "")), "")
    if fault:
        say(f"checkpoint.local: {fault}: checkpoints are saved in the output folder alone")
    return None if fault else tier


def _newer(tier: LocalTier, resume: Path | None, stage: int, place: Rendezvous) -> Path | None:
    """This node's part of a whole checkpoint of the second tier that is newer than `resume`. A collective."""
    after = checkpoints.step(resume) if resume else 0
    held = spread.gather(tier.held(place.world_size, stage))
    found = _newest_whole([tier.folder(step) for step in local_tier.common(held, after)], place)
    if found is None and any(step > after for one in held for step in one):
        say(f"no newer checkpoint in {tier.root} is whole on all nodes")
    return found


def _fitting(resume: Path, output_dir: Path, args: Any, place: Rendezvous) -> Path:
    """The checkpoint for this many processes under this ZeRO stage, converted if need be. A collective.

    Raises UserError if it cannot be.
    """
    stage = zero_stage(args)
    files = set().union(*spread.gather(checkpoints.zero_files(resume)))  # nodes may have separate output folders
    other = checkpoints.other_split(files, stage, place.world_size)
    if not other:
        return resume
    fault = universal.fault(files, args, stage)
    if not fault and not sharing.are_one(output_dir, place):
        fault = "each node has an output folder of its own"
    if fault:
        raise UserError(
            f"{resume}: cannot be resumed: {other} ({fault}). Resume it as it was trained, or start a new run from its "
            f"weights: `model: {resume}`.",
            everywhere=True,
        )
    say(f"{resume} is converted by DeepSpeed: {other}")
    universal.load_with(args)
    return sharing.once(lambda: universal.convert(resume, output_dir), output_dir, place)


def _refuse_foreign(resume: Path, output_dir: Path) -> None:
    """Raise UserError if DeepSpeed would unpickle what another user may have written. A collective."""
    own = output_dir / checkpoints.OWNER
    local = checkpoints.foreign(resume, own) if own.exists() and checkpoints.zero_files(resume) else ""
    if fault := next(filter(None, spread.gather(local)), ""):
        raise UserError(
            f"{fault}: resuming from it would run any code that is in it. If it is what you wrote, correct its owner "
            f"or mode; or start a new run from its weights: `model: {resume}`.",
            everywhere=True,
        )


def require_rows(begin: Start, rows: int) -> None:
    """Raise UserError unless the training data have as many rows as those that the checkpoint was trained on."""
    checkpoint, saved = begin.checkpoint, begin.saved
    if saved and saved.rows != rows:
        raise UserError(
            f"the data are not those of {checkpoint}: it was trained on {saved.rows} sequences, and they now make "
            f"{rows}, so that its place in their order means nothing. Restore them, or start a new run: "
            f"`resume: never`, or from its weights, `model: {checkpoint}`.",
            everywhere=True,
        )


def candidates(job: TrainConfig, args: Any, attempt: checkpoints.Attempt) -> list[Path]:
    """The checkpoints to try, the best first, as `resume` (or `train.resume_from_checkpoint`) asks for it."""
    output_dir, named = Path(args.output_dir), _named(job, args)
    found = checkpoints.candidates(output_dir, named, attempt)
    for folder, count in checkpoints.failed_starts(output_dir).items():
        if count >= checkpoints.MAX_FAILED_STARTS:
            say(f"{folder} failed to start {count} times; an older checkpoint is tried first")
    if not found or attempt.is_restart(output_dir):
        return found
    if job.resume == "never":
        return []
    whole = manifest.read(found[0])
    other, schedule = sameness.differences(whole.job, sameness.of(job)) if whole else ([], [])
    if not (named or args.resume_from_checkpoint):
        if whole is None:
            say(f"{found[0]} has no {manifest.NAME}; `resume: {found[0]}` goes on from it, if it is this job's")
            return []
        if other:
            say(f"{found[0]} is another job's: {'; '.join(other)}")
            return []
        if _is_finished(output_dir, whole, args):
            say(f"the earlier run in {output_dir} has reached its end")
            return []
        other = []
    if other or schedule:
        say(f"other than in {found[0]}: {'; '.join([*other, *schedule])}")
    return found


def _named(job: TrainConfig, args: Any) -> str | None:
    """The checkpoint that the job names, if it does."""
    older = args.resume_from_checkpoint if isinstance(args.resume_from_checkpoint, str) else None
    return checkpoint_named(job.resume) or older


def _is_finished(output_dir: Path, last: manifest.Manifest, args: Any) -> bool:
    """Whether a run saved its result, and this job asks for no further step."""
    reached = last.step >= args.max_steps if args.max_steps > 0 else last.epoch >= args.num_train_epochs
    return reached and (output_dir / trained_folder.PROVENANCE).exists()


def _newest_whole(found: list[Path], place: Rendezvous) -> Path | None:
    """The first of these checkpoints whose files are all as they were written. A collective."""
    for folder in found:
        fault = next(filter(None, spread.gather(_fault(folder, place))), "")
        if not fault:
            if manifest.read(folder) is None:
                say(f"{folder} has no {manifest.NAME}, so its files cannot be checked: alignlaunch did not write it")
            return folder
        say(f"{folder} cannot be resumed and is passed over: {fault}")
    return None


def _fault(folder: Path, place: Rendezvous) -> str:
    whole = manifest.read(folder)
    if whole and not whole.has_optimizer:
        return "it holds weights without optimizer state (train.save_only_model)"
    return manifest.changed(folder, whole, place.rank, place.world_size) if whole else ""
