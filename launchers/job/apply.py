"""Write settings into a job file in place: what `alignlaunch plan --apply` found."""

from __future__ import annotations

import difflib
import stat
from pathlib import Path
from typing import Any

from ..errors import JobFileError, UsageError
from ..files import unwritable, write_atomic
from . import batch, edit, jobfile, sweep, yamlfile
from .yamlfile import STEPS


def write(path: Path, settings: list[str], cluster_name: str | None) -> str:
    """Set each `KEY=value` in the job file. Returns the diff; "" if the file says so already.

    Of micro-batch and accumulation, which follow from `train.effective_batch_size` in a file that has it, only what is
    in the file is set. Raises UsageError for a file in which it is not clear where a setting belongs, or where it would
    not be the same job file otherwise; nothing is written then.
    """
    path = path.resolve()  # a link stays a link
    before = _text(path)
    data = yamlfile.parse(before, str(path)).data
    for key, what in ((STEPS, "a pipeline file"), (sweep.SWEEP, "a sweep")):
        if key in data:
            raise _refused(path, f"{what}: its settings belong to several jobs", settings)
    train: dict[str, Any] = data["train"] if isinstance(data.get("train"), dict) else {}
    named = (setting.partition("=") for setting in settings)
    changes = {tuple(key.split(".")): yamlfile.parse_value(value, key) for key, _, value in named}
    if batch.KEY in train:
        follow = {("train", key) for key in (batch.MICRO, batch.ACCUMULATION) if key not in train}
        if changes and changes.keys() <= follow:
            why = f"train.{batch.KEY} decides when it is rendered, from gpu_memory_gib of the cluster profile"
            raise _refused(path, why, settings)
        changes = {key: value for key, value in changes.items() if key not in follow}
    try:
        after = edit.changed(before, str(path), changes)
        jobfile.build(yamlfile.parse(after, str(path)), (), cluster_name)
    except edit.EditError as error:
        raise _refused(path, str(error), settings) from error
    except JobFileError as error:
        raise _refused(path, str(error.problems[0]).partition("\n")[0], settings) from error
    if after == before:
        return ""
    try:
        write_atomic(path, after, mode=stat.S_IMODE(path.stat().st_mode))
    except OSError as error:
        raise unwritable(path, error) from error
    return "\n".join(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), path.name, f"{path.name} (as planned)", lineterm=""
        )
    )


def _text(path: Path) -> str:
    yamlfile.read(path)  # its errors
    return path.read_bytes().decode("utf-8")


def _refused(path: Path, why: str, settings: list[str]) -> UsageError:
    by_hand = f"write it yourself: {', '.join(settings)}"
    return UsageError(f"--apply: {path.name}: {why}; nothing was written\n    remedy: {by_hand}")
