"""Which checkpoint a run starts from. No torch here."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from alignlaunch.train.errors import UserError

INCOMPLETE = "checkpoint-is-incomplete.txt"


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints that were written to their end, oldest first."""
    # trainer_state.json is the last file that the trainer writes.
    return [f for f in _folders(output_dir) if not (f / INCOMPLETE).exists() and (f / "trainer_state.json").is_file()]


def choose(output_dir: Path, asked: Any, restart_count: int) -> Path | None:
    """The checkpoint to resume from: the one asked for, or after a restart the last; None starts afresh.

    Raises UserError when the one asked for is not there or not complete.
    """
    if isinstance(asked, str):
        folder = Path(asked)
        if not (folder / "trainer_state.json").is_file() or (folder / INCOMPLETE).exists():
            raise UserError(
                f"train.resume_from_checkpoint: {asked}: not a complete checkpoint (no trainer_state.json, or "
                f"{INCOMPLETE} is in it). Name an older checkpoint-N folder, or `true` for the last complete one."
            )
        return folder
    if not asked and restart_count == 0:
        return None
    found = complete_checkpoints(output_dir)
    if asked and not found and restart_count == 0:
        raise UserError(
            f"train.resume_from_checkpoint: true, but {output_dir} holds no complete checkpoint. Remove the key to "
            "start afresh."
        )
    return found[-1] if found else None


def set_aside(output_dir: Path) -> Path | None:
    """Move an earlier run's checkpoints out of the way of a fresh run, so that no restart resumes from them."""
    old = _folders(output_dir)
    if not old:
        return None
    aside = output_dir / time.strftime("previous-%Y%m%dT%H%M%S")
    aside.mkdir()
    for folder in old:
        folder.rename(aside / folder.name)
    return aside


def _folders(output_dir: Path) -> list[Path]:
    numbered = [(m, p) for p in output_dir.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))]
    return [path for _, path in sorted((int(match[1]), path) for match, path in numbered)]
