"""Which checkpoint a run starts from, and which run the checkpoints in an output folder belong to. No torch here."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .. import trained_folder
from ..errors import UserError
from . import manifest

#: Transformers' mark of a checkpoint that is still being written.
INCOMPLETE = "checkpoint-is-incomplete.txt"
#: The file that names the run to which the checkpoints of an output folder belong.
OWNER = ".run"
#: The folder in which a checkpoint is written, until it is complete.
ASIDE = ".saving"
#: A line for each attempt that failed before its first step: a checkpoint that fails again is passed over.
FAILED_STARTS = ".failed-starts"
MAX_FAILED_STARTS = 2
#: A line for each attempt of a run since its last checkpoint: one that is killed each time is not restarted for ever.
STARTS = ".starts"
MAX_STARTS = 5
#: The step of the newest checkpoint in the second tier (`local_tier`), which only the nodes themselves see.
LOCAL_STEP = ".local-step"
#: Of so many `previous-*` folders the checkpoints are kept, too; of older ones only the results.
KEPT_PREVIOUS = 2


_NAME = re.compile(r"checkpoint-\d+")


class Attempt(NamedTuple):
    """An attempt of a run. restart_count: restarts that the launcher counted. uncounted: it counts none."""

    run_id: str
    restart_count: int
    uncounted: bool = False

    def is_restart(self, output_dir: Path) -> bool:
        """Whether this run has had the output folder before. Where restarts are not counted, OWNER tells."""
        return (self.restart_count > 0 or self.uncounted) and owner(output_dir) == self.run_id


def candidates(output_dir: Path, named: str | None, attempt: Attempt) -> list[Path]:
    """The checkpoints that this attempt may resume from, the one to try first at the head; empty: it starts afresh.

    A restarted run resumes from its own last complete checkpoint, if it has one; any other from the one that is
    `named`, or else from the last complete one. Those that failed to start MAX_FAILED_STARTS times come last. Raises
    UserError if the named one is missing or incomplete.
    """
    found = complete_checkpoints(output_dir)[::-1]
    if named and not (found and attempt.is_restart(output_dir)):
        return [_complete(Path(named))]
    failed = failed_starts(output_dir)
    return sorted(found, key=lambda folder: failed[folder.name] >= MAX_FAILED_STARTS)


def record_failed_start(checkpoint: Path, token: str) -> None:
    """Note that an attempt failed before its first step from a checkpoint. token: the attempt's, on every rank."""
    with suppress(OSError), (checkpoint.parent / FAILED_STARTS).open("a", encoding="utf-8") as file:
        file.write(f"{checkpoint.name} {token}\n")


def failed_starts(output_dir: Path) -> Counter[str]:
    """How many attempts failed to start from each checkpoint, by its name, since the last one was written."""
    try:
        lines = (output_dir / FAILED_STARTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Counter()
    return Counter(line.partition(" ")[0] for line in set(lines))  # several ranks of an attempt may have noted it


def record_start(output_dir: Path, attempt: Attempt) -> None:
    """Note that an attempt begins. Raises UserError if MAX_STARTS of this run did since the last checkpoint."""
    file = output_dir / STARTS
    goes_on = file.exists() and attempt.is_restart(output_dir)
    before = file.read_text(encoding="utf-8", errors="replace").splitlines() if goes_on else []
    if len(before) >= MAX_STARTS:
        raise UserError(
            f"{output_dir}: {len(before)} attempts of this run have ended before they saved a checkpoint, the last of "
            f"them begun at {before[-1]}. See why with `alignlaunch diagnose` and in the log, then submit again; if "
            "nothing is wrong but the time between failures, save more often (train.save_steps).",
            everywhere=True,
        )
    lines = "".join(f"{line}\n" for line in [*before, time.strftime("%Y-%m-%dT%H:%M:%S%z")])
    try:
        file.write_text(lines, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}. Make room there, and submit again.", everywhere=True) from error


def claim(output_dir: Path, resume: Path | None, attempt: Attempt, inputs: Sequence[str] = ()) -> Path | None:
    """Make the output folder this run's, which starts from `resume`. Returns the folder to which old files were moved.

    All other checkpoints are moved aside, so that no restart takes them for this run's, and so are an earlier run's
    results: weights that stayed would be taken for this run's. inputs: folders that the run reads; their weights stay
    where they are. Only the last KEPT_PREVIOUS folders of old files keep their checkpoints.
    """
    shutil.rmtree(output_dir / ASIDE, ignore_errors=True)  # what an attempt that was killed had half written
    moved = _other_checkpoints(output_dir, resume)
    if not attempt.is_restart(output_dir) and not any(Path(one).resolve() == output_dir.resolve() for one in inputs):
        moved += _results(output_dir, resume)
    aside = _set_aside(output_dir, moved)
    for old in sorted(output_dir.glob("previous-*"))[:-KEPT_PREVIOUS]:
        for checkpoint in folders(old):
            shutil.rmtree(checkpoint, ignore_errors=True)
    if not attempt.is_restart(output_dir):
        (output_dir / LOCAL_STEP).unlink(missing_ok=True)
    (output_dir / OWNER).write_text(attempt.run_id, encoding="utf-8")
    return aside


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints that were written completely, oldest first."""
    return [folder for folder in folders(output_dir) if not _fault(folder)]


def reached(output_dir: Path) -> int:
    """The step of a run's newest complete checkpoint of either tier; -1: it has none, or the folder cannot be read."""
    try:
        found = complete_checkpoints(output_dir)
    except OSError:
        return -1
    try:
        local = int((output_dir / LOCAL_STEP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        local = -1
    return max(step(found[-1]) if found else -1, local)


def folders(output_dir: Path) -> list[Path]:
    """All folders `checkpoint-N`, complete or not, by N."""
    return sorted((path for path in output_dir.glob("checkpoint-*") if _NAME.fullmatch(path.name)), key=step)


def step(checkpoint: Path) -> int:
    """The step that a folder `checkpoint-N` was written at."""
    return int(checkpoint.name.rpartition("-")[2])


def zero_files(folder: Path) -> set[str]:
    """The names of a checkpoint's ZeRO files, one or two for each rank that wrote it; empty without ZeRO."""
    return {path.name for path in folder.glob("global_step*/*zero_pp_rank_*")}


def foreign(folder: Path, own: Path) -> str:
    """Which of a checkpoint's ZeRO files another user may have written, and why; empty: none. Raises OSError.

    DeepSpeed unpickles these, which runs whatever code they name; all others are read as plain tensors. own: a file
    that this run has written: its owner and mode are ours as the file system shows them (NFS may map root to nobody).
    """
    ours = own.stat()
    for path in [folder, *folder.glob("global_step*"), *folder.glob("global_step*/*.pt")]:
        found = path.stat()
        if found.st_uid not in (0, os.getuid(), ours.st_uid):
            return f"{path} belongs to user {found.st_uid}"
        if found.st_mode & stat.S_IWOTH and not ours.st_mode & stat.S_IWOTH:
            return f"{path} may be written by everybody"
    return ""


def other_split(files: set[str], zero_stage: int, world_size: int) -> str:
    """How a checkpoint with these `zero_files` differs from what this world size and ZeRO stage write; "": not at all.

    zero_stage: 0 for DDP. DeepSpeed does not re-shard an optimizer's state by itself, and DDP would silently ignore it.
    """
    parts = sum(name.endswith("_optim_states.pt") for name in files)
    weights = any(name.endswith("_model_states.pt") for name in files)
    if (parts, weights) == (world_size if zero_stage else 0, zero_stage == 3):
        return ""
    stage = "ZeRO-3" if weights else "ZeRO-1 or 2"
    held = f"the optimizer state of {parts} process(es) under {stage}" if parts else "no optimizer state of ZeRO"
    here = f"ZeRO-{zero_stage}" if zero_stage else "DDP"
    return f"it holds {held}, and this run has {world_size} process(es) under {here}"


def _fault(folder: Path) -> str:
    """Why a folder is no complete checkpoint, as far as the names and sizes of its files tell; empty: it is one."""
    if (folder / trained_folder.PROVENANCE).exists():
        return f"{trained_folder.PROVENANCE} is in it: it is a run's result, without optimizer state"
    if (folder / INCOMPLETE).exists():
        return f"{INCOMPLETE} is in it"
    if not (folder / "trainer_state.json").is_file():
        return "it has no trainer_state.json"
    # One that transformers or an earlier alignlaunch wrote has no manifest; there is nothing to hold it against.
    found = manifest.read(folder)
    if found is None and (folder / manifest.NAME).exists():
        return f"its {manifest.NAME} cannot be read"
    return manifest.missing(folder, found) if found else ""


def _complete(folder: Path) -> Path:
    if fault := _fault(folder):
        raise UserError(
            f"resume: {folder}: not a complete checkpoint: {fault}. Name an older checkpoint-N folder, or remove the "
            "key: `auto` takes the last complete one.",
            everywhere=True,
        )
    return folder


def owner(output_dir: Path) -> str | None:
    """The id of the run to which the checkpoints of an output folder belong; None if no run has had it."""
    try:
        return (output_dir / OWNER).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _other_checkpoints(output_dir: Path, resume: Path | None) -> list[Path]:
    """All checkpoints except the one to resume from and older ones of the same folder."""
    found = folders(output_dir)
    names = [folder.name for folder in found]
    here = resume is not None and resume.resolve().parent == output_dir.resolve() and resume.name in names
    return found[names.index(resume.name) + 1 :] if here and resume else found


def _results(output_dir: Path, resume: Path | None) -> list[Path]:
    """An earlier run's files besides checkpoints; without its metrics if this run continues them.

    Only in the output folder of an earlier run: any other folder may hold a model of the user's.
    """
    if not any((output_dir / name).exists() for name in (OWNER, trained_folder.PROVENANCE)):
        return []
    found = {path for pattern in trained_folder.RESULTS for path in output_dir.glob(pattern)}
    goes_on = resume is not None and resume.resolve().parent == output_dir.resolve()
    return sorted(found - ({output_dir / trained_folder.METRICS} if goes_on else set()))


def _set_aside(output_dir: Path, moved: list[Path]) -> Path | None:
    """Move these into a new folder `previous-...`. Returns it; None if there was nothing to move."""
    if not moved:
        return None
    aside = output_dir / f"{time.strftime('previous-%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}"
    aside.mkdir()
    for path in moved:
        path.rename(aside / path.name)
    return aside
