"""Where a run's results lie: in its output folder, or moved aside when another run began there."""

from __future__ import annotations

from pathlib import Path

from alignlaunch.train import trained_folder
from alignlaunch.train.trained_folder import METRICS

from ..backends import registry
from ..runs.records import Run
from ..watch import metrics


def find(run: Run) -> tuple[Path | None, str]:
    """The folder with the run's metrics.jsonl, and ""; or None, and why it has none that is seen from here.

    A run that had ended when another one took its output folder is found where that one moved its results.
    """
    if not registry.of(run.scheme).shares_files:
        return None, "its files lie in the cluster; copy its output folder here, and name that folder instead"
    if not run.output_dir or not run.run_dir:
        return None, "its folders are not recorded here; use the record of runs of the user that submitted it"
    folder = Path(run.output_dir)
    try:
        return (found, "") if (found := _own(run, folder)) else (None, _why_none(run, folder))
    except OSError as error:
        return None, f"{folder}: {error.strerror}"


def _own(run: Run, folder: Path) -> Path | None:
    path = metrics.path(run)
    if path and path.is_file():
        return folder
    moved = (aside for aside in sorted(folder.glob("previous-*"), reverse=True) if (aside / METRICS).is_file())
    return next((aside for aside in moved if run.made(trained_folder.provenance(aside))), None)


def _why_none(run: Run, folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no {folder}"
    return f"nothing is logged in {folder} yet" if metrics.path(run) else f"what lies in {folder} is of another run"
