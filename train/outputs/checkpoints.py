"""Which checkpoint a run starts from, and whose checkpoints lie in its output folder. No torch here."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import trained_folder
from ..errors import UserError

INCOMPLETE = "checkpoint-is-incomplete.txt"
#: Names the run that the checkpoints of an output folder belong to.
OWNER = ".run"


class Start(NamedTuple):
    """Where a run begins: resume, the checkpoint to go on from; aside, where what others left was moved."""

    resume: Path | None
    aside: Path | None


def settle(
    output_dir: Path,
    asked: Any,
    restart_count: int,
    run_id: str,
    *,
    uncounted: bool = False,
    inputs: Sequence[str] = (),
) -> Start:
    """Make the output folder this run's.

    A restarted run goes on from its own last checkpoint. One that starts resumes where it is `asked` to (a folder, or
    true: the last there is). All other checkpoints are set aside, so that no restart takes them for this run's, and
    with them an earlier run's results: weights that nobody overwrote would be taken for this one's.
    uncounted: a run that has been here before is restarted, whatever its count says.
    inputs: folders that the run reads, whose weights stay.
    Raises UserError when the one asked for is not there or not complete.
    """
    found = complete_checkpoints(output_dir)
    restarted = (restart_count > 0 or uncounted) and _owner(output_dir) == run_id
    if restarted and found:
        resume: Path | None = found[-1]
    elif isinstance(asked, str):
        resume = _complete(Path(asked))
    else:
        resume = found[-1] if asked and found else None
    if asked and resume is None and restart_count == 0 and not restarted:
        raise UserError(
            f"train.resume_from_checkpoint: true, but {output_dir} holds no complete checkpoint. Remove the key to "
            "start afresh.",
            everywhere=True,
        )
    moved = _other_checkpoints(output_dir, resume)
    if not restarted and not any(Path(one).resolve() == output_dir.resolve() for one in inputs):
        moved += _results(output_dir, resume)
    aside = _set_aside(output_dir, moved)
    (output_dir / OWNER).write_text(run_id, encoding="utf-8")
    return Start(resume, aside)


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints that were written to their end, oldest first."""
    return [folder for folder in _folders(output_dir) if _is_complete(folder)]


def zero_files(folder: Path) -> set[str]:
    """What the processes of a ZeRO run wrote into a checkpoint, one or two files each; empty without ZeRO."""
    return {path.name for path in folder.glob("global_step*/*zero_pp_rank_*")}


def refuse_other_split(folder: Path, files: set[str], zero_stage: int, world_size: int) -> None:
    """Raise UserError where a checkpoint with these `zero_files` was not written by as many processes, under such ZeRO.

    zero_stage: 0 for DDP. DeepSpeed cannot split an optimizer's state anew, and without ZeRO it would be left aside.
    """
    parts = sum(name.endswith("_optim_states.pt") for name in files)
    weights = any(name.endswith("_model_states.pt") for name in files)
    if (parts, weights) == (world_size if zero_stage else 0, zero_stage == 3):
        return
    stage = "ZeRO-3" if weights else "ZeRO-1 or 2"
    held = f"the optimizer state of {parts} process(es) under {stage}" if parts else "no optimizer state of ZeRO"
    here = f"ZeRO-{zero_stage}" if zero_stage else "DDP"
    raise UserError(
        f"{folder}: cannot be resumed: it holds {held}, and this run has {world_size} process(es) under {here}. Resume "
        f"it as it was trained, or start a new run from its weights: `model: {folder}`.",
        everywhere=True,
    )


def _is_complete(folder: Path) -> bool:
    # trainer_state.json is the last file that the trainer writes. The final output has one too, but no optimizer.
    final = (folder / trained_folder.PROVENANCE).exists()
    return not final and not (folder / INCOMPLETE).exists() and (folder / "trainer_state.json").is_file()


def _complete(folder: Path) -> Path:
    if not _is_complete(folder):
        raise UserError(
            f"train.resume_from_checkpoint: {folder}: not a complete checkpoint (no trainer_state.json, or "
            f"{INCOMPLETE} or {trained_folder.PROVENANCE} is in it). Name an older checkpoint-N folder, or "
            "`true` for the last complete one.",
            everywhere=True,
        )
    return folder


def _owner(output_dir: Path) -> str | None:
    try:
        return (output_dir / OWNER).read_text(encoding="utf-8")
    except OSError:
        return None


def _other_checkpoints(output_dir: Path, resume: Path | None) -> list[Path]:
    """All checkpoints but the one to resume from and those before it."""
    folders = _folders(output_dir)
    names = [folder.name for folder in folders]
    here = resume is not None and resume.resolve().parent == output_dir.resolve() and resume.name in names
    return folders[names.index(resume.name) + 1 :] if here and resume else folders


def _results(output_dir: Path, resume: Path | None) -> list[Path]:
    """What an earlier run left besides checkpoints; its metrics stay where this one goes on with them.

    Only in a folder that a run of ours had: there may be a model of the user's in any other.
    """
    if not any((output_dir / name).exists() for name in (OWNER, trained_folder.PROVENANCE)):
        return []
    found = {path for pattern in trained_folder.RESULTS for path in output_dir.glob(pattern)}
    goes_on = resume is not None and resume.resolve().parent == output_dir.resolve()
    return sorted(found - ({output_dir / trained_folder.METRICS} if goes_on else set()))


def _set_aside(output_dir: Path, moved: list[Path]) -> Path | None:
    """Move these into a folder of their own; None where there are none."""
    if not moved:
        return None
    aside = output_dir / f"{time.strftime('previous-%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}"
    aside.mkdir()
    for path in moved:
        path.rename(aside / path.name)
    return aside


def _folders(output_dir: Path) -> list[Path]:
    numbered = [(m, p) for p in output_dir.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))]
    return [path for _, path in sorted((int(match[1]), path) for match, path in numbered)]
