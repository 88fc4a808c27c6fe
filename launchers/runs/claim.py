"""Which run owns an output folder: a file in the folder, so that two users or machines cannot both write to it."""

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
from ..files import shared_mode, write_atomic
from .records import Run

FILE = ".alignlaunch-run.json"


def owner(folder: str) -> Run | None:
    """The run that last claimed the folder, with its state at that time; None if there is no claim."""
    data = _read(Path(folder) / FILE)
    try:
        return Run.from_json(data.get("run", {})) if data else None
    except ValueError:  # written by another version of alignlaunch
        return None


def take(run: Run, over: Run | None) -> None:
    """Claim the output folder for `run`. over: the ended run whose claim it replaces, if there was one.

    Raises UsageError where another run has it by now. A folder that cannot be written from here is left alone: the
    nodes may see it otherwise.
    """
    path = Path(run.output_dir) / FILE
    before, new = b"", None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if over and path.exists():
            before = path.read_bytes()
        # O_EXCL decides a race: on the claim itself, or on a successor that is named after the claim it replaces.
        place = path.with_name(f"{FILE}.{sha256(before).hexdigest()[:12]}") if before else path
        with os.fdopen(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            new = place
            file.write(_text(run))
        place.chmod(shared_mode(path.parent))  # who may write there must see that it is taken, whatever the umask
        if before:
            _replace_owner(place, path, before, over)
    except FileExistsError as error:
        raise taken_error(owner(run.output_dir), run.output_dir) from error
    except OSError:
        if new:  # disk full: an empty claim would block the folder, and nobody could tell whose it is
            new.unlink(missing_ok=True)


def _replace_owner(new: Path, path: Path, before: bytes, over: Run | None) -> None:
    """Replace `path` by `new`. Raises FileExistsError if another submission replaced it first."""
    had = owner(str(path.parent))
    if path.read_bytes() != before or had is None or over is None or had.handle != over.handle:
        new.unlink()
        raise FileExistsError(path)
    new.replace(path)


def update(run: Run) -> None:
    """Update the claim of the run that owns the folder."""
    with suppress(OSError):
        if (found := owner(run.output_dir)) and found.run_dir == run.run_dir:
            write_atomic(Path(run.output_dir) / FILE, _text(run), mode=shared_mode(Path(run.output_dir)))


def release(run: Run) -> None:
    """Remove the claim: nothing was submitted."""
    with suppress(OSError):
        if (found := owner(run.output_dir)) and found.run_dir == run.run_dir:
            (Path(run.output_dir) / FILE).unlink()


def taken_error(run: Run | None, folder: str) -> UsageError:
    """The error for a folder that another run owns."""
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
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
