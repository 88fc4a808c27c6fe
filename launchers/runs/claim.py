"""Whose an output folder is: a file in it, so that no two submissions have it, nor those of two people or machines."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..audit import provenance
from ..errors import UsageError
from ..files import write_atomic
from .records import Run

FILE = ".alignlaunch-run.json"


def owner(folder: str) -> Run | None:
    """The run that a folder was last given to, with its state of then; None where nobody has claimed it."""
    data = _read(Path(folder) / FILE)
    try:
        return Run.of(data["run"]) if data else None
    except (TypeError, KeyError):  # of another version
        return None


def take(run: Run, over: Run | None) -> None:
    """Give `run` its output folder, which `over`, a run that has ended, may have had.

    Raises UsageError where another run has it by now. A folder that cannot be written from here is left alone: the
    nodes may see it otherwise.
    """
    path = Path(run.output_dir) / FILE
    before, new = b"", None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if over and path.exists():
            before = path.read_bytes()
        # The file itself where there is none, else the one place of a successor of just this file.
        place = path.with_name(f"{FILE}.{sha256(before).hexdigest()[:12]}") if before else path
        with os.fdopen(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "w", encoding="utf-8") as file:
            new = place
            file.write(_text(run))
        if before:
            _succeed(place, path, before, over)
    except FileExistsError as error:
        raise taken(owner(run.output_dir), run.output_dir) from error
    except OSError:
        if new:  # a full disk: a claim of which nobody can read whose it is would stay for ever
            new.unlink(missing_ok=True)


def _succeed(new: Path, path: Path, before: bytes, over: Run | None) -> None:
    """Put `new` in the place of `path`. Raises FileExistsError where another one was quicker."""
    had = owner(str(path.parent))
    if path.read_bytes() != before or had is None or over is None or had.handle != over.handle:
        new.unlink()
        raise FileExistsError(path)
    new.replace(path)


def update(run: Run) -> None:
    """Note what has become known of the run that has the folder."""
    with suppress(OSError):
        if (found := owner(run.output_dir)) and found.run_dir == run.run_dir:
            write_atomic(Path(run.output_dir) / FILE, _text(run))


def release(run: Run) -> None:
    """Give the folder back: nothing was submitted."""
    with suppress(OSError):
        if (found := owner(run.output_dir)) and found.run_dir == run.run_dir:
            (Path(run.output_dir) / FILE).unlink()


def taken(run: Run | None, folder: str) -> UsageError:
    """The one wording for a folder that another run has."""
    who = f"{run.name} ({run.handle}, {run.status.state})" if run else "another run"
    by = _read(Path(folder) / FILE).get("by")
    remedy = f"wait for its end, `alignlaunch cancel {run.handle}`, or " if run else ""
    return UsageError(
        f"output_dir: {folder}: {who}{f', submitted by {by},' if by else ''} writes there\n"
        f"    remedy: {remedy}choose another output_dir"
    )


def _text(run: Run) -> str:
    return json.dumps({"by": provenance.who(), "run": asdict(run)}, indent=2) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
