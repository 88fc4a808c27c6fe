"""The best of several trained folders by a metric: decided when a run starts that trains on it. No torch here.

A job names the choice by a link, which is then made: whatever reads the model needs to know nothing of it.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import trained_folder
from .config import Choice
from .errors import UserError

#: File in the run's folder: what was decided, for its later attempts, too.
FILE = "chosen.json"
#: Ends of the names of metrics that should be low, and high.
_LOW = ("loss", "perplexity")
_HIGH = ("accuracy", "accuracies", "margins", "rewards/chosen")


def direction(metric: str) -> int:
    """-1 if a metric should be low, 1 if it should be high, 0 if nobody can say by its name."""
    return next((sign for ends, sign in ((_LOW, -1), (_HIGH, 1)) if metric.endswith(ends)), 0)


def settle(choices: Sequence[Choice], run_dir: str | None, say: Callable[[str], None]) -> None:
    """Make the links of a job's choices. Every process may call it: all come to the same.

    run_dir: the run's folder; None: by hand. Raises UserError if there is nothing to choose from.
    """
    record = Path(run_dir, FILE) if run_dir else None
    decided = _read(record)
    for choice in choices:
        chosen = decided.get(choice.link) or _best(choice, say)
        _link(Path(choice.link), Path(chosen))
        decided[choice.link] = chosen
    if choices and record:
        with suppress(OSError):
            new = record.with_name(f".{FILE}.{secrets.token_hex(4)}")
            new.write_text(json.dumps(decided, indent=2) + "\n", encoding="utf-8")
            new.replace(record)


def _best(choice: Choice, say: Callable[[str], None]) -> str:
    values = {folder: _final(Path(folder), choice.metric) for folder in choice.among}
    known = {folder: value for folder, value in values.items() if value is not None}
    for folder in values.keys() - known.keys():
        say(f"{choice.link}: {folder} has no {choice.metric}, or has not ended well: it is left out")
    if not known:
        raise UserError(
            f"{choice.link}: of {', '.join(choice.among)} none has ended with a {choice.metric}. Look at what "
            "became of them, or name another metric.",
            everywhere=True,
        )
    sign = direction(choice.metric)
    chosen = max(known, key=lambda folder: (sign * known[folder], -choice.among.index(folder)))
    say(f"{choice.link} is {chosen}: {choice.metric} {known[chosen]:g}, the best of {len(known)}")
    return chosen


def _final(folder: Path, metric: str) -> float | None:
    """The last value of a metric of a run that saved its result; None if there is none."""
    if not (folder / trained_folder.PROVENANCE).is_file():
        return None
    try:
        lines = (folder / trained_folder.METRICS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = [record[metric] for record in _records(lines) if metric in record]
    return next((float(value) for value in reversed(found) if _is_number(value)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _records(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def _link(link: Path, target: Path) -> None:
    """Let `link` lead to `target`, in one step for whoever reads it."""
    aim = os.path.relpath(target, link.parent)
    if link.is_symlink() and str(link.readlink()) == aim:
        return
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link}: should become a link to {target}, but something is there. Move it.", everywhere=True)
    new = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        new.symlink_to(aim)
        new.replace(link)
    except OSError as error:
        raise UserError(f"{link}: cannot be made a link to {target}: {error.strerror}.", everywhere=True) from error


def _read(record: Path | None) -> dict[str, str]:
    if record is None:
        return {}
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    is_one = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if is_one else {}
