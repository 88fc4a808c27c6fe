"""Find the output of a run, and export or evaluate it in a subprocess with the python that trained it.

A subprocess, because the submitting side imports no torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlaunch.train import config, trained_folder

from .audit import provenance
from .errors import LaunchError, UsageError
from .runs import records
from .runs.records import Run
from .watch import states, words


@dataclass(frozen=True)
class Trained:
    """An output folder of training and its provenance, an empty dict if it has none."""

    folder: Path
    about: dict[str, Any]


def find(text: str) -> Trained:
    """The output of a run (handle, job's name, "last"), of a pipeline its last job's, or a folder by its path.

    Raises UsageError if there is none, or if it is one of many: the points of a sweep.
    """
    is_run = "://" in text or bool(records.find(text))
    if not is_run and Path(text).is_dir():
        folder = Path(text).resolve()
    else:
        runs = states.find(text)
        run = runs[-1]
        if len(runs) > 1 and _is_point(run):
            points = ", ".join(one.name for one in runs if _is_point(one))
            raise UsageError(f"{text}: a sweep\n    remedy: name one of its points: {points}")
        if not run.output_dir:
            raise UsageError(f"{run.handle}: not in the record of runs\n    remedy: give its output_dir")
        folder = Path(run.output_dir)
        if not folder.is_dir() or all(one.name.startswith(".") for one in folder.iterdir()):  # the claim of a run
            now = states.refresh([run], {})[0]
            raise UsageError(f"{words.describe(now)}\n    no output in {folder}\n    remedy: {_remedy(now)}")
        _require_its_own(run, folder)
    return Trained(folder, trained_folder.provenance(folder))


def _remedy(run: Run) -> str:
    """What to do about a run without output."""
    verb = "retry" if run.status.is_final else "wait"
    return f"`alignlaunch {verb} {run.handle}`"


def _is_point(run: Run) -> bool:
    """Whether a run is a point of a sweep."""
    return bool(run.run_dir and provenance.read(Path(run.run_dir)).get("point"))


def _require_its_own(run: Run, folder: Path) -> None:
    """Raise UsageError if the results in a run's output folder are those of an earlier or a later run."""
    made_by = trained_folder.provenance(folder).get("run_id")
    if not made_by or not run.run_dir:  # results of a version that did not write a run_id, or an unknown run
        return
    if not run.made(trained_folder.provenance(folder)):
        raise UsageError(
            f"{run.handle}: what lies in {folder} was trained by another run, {Path(made_by).name}\n"
            f"    remedy: see `alignlaunch status {run.handle}`; name the folder itself to take what is there"
        )


def run(trained: Trained, module: str, *arguments: str, cwd: Path | None = None) -> None:
    """Run a module of train/ with its stdout sent to stderr. If it fails, it has printed its own message there.

    Raises UsageError or LaunchError, as its exit code says.
    """
    command = [_python(trained), "-m", module, *arguments]
    done = subprocess.run(command, cwd=cwd, stdout=sys.stderr, check=False)
    if done.returncode:
        kind = UsageError if done.returncode == UsageError.exit_code else LaunchError
        raise kind(f"{trained.folder}: {module} ended with exit code {done.returncode}, see above")


def evaluate(trained: Trained, data: tuple[str, ...]) -> dict[str, Any]:
    """Evaluate a trained folder on this machine, with the stage and settings of its job. Returns its eval.json."""
    job, working_dir = trained.about.get("job"), trained.about.get("working_dir")
    if not job or not working_dir:
        raise UsageError(
            f"{trained.folder}: no {trained_folder.PROVENANCE} that names its job, so that its stage is unknown\n"
            "    remedy: give the output_dir of a run that has ended"
        )
    if not Path(working_dir).is_dir():
        raise UsageError(
            f"{trained.folder}: trained from {working_dir}, which is not on this machine\n"
            "    remedy: evaluate it where the job's folder is"
        )
    if trained_folder.is_foreign(trained.folder) and config.trusts_remote_code(job):
        raise UsageError(
            f"{trained.folder}: another user may have written its {trained_folder.PROVENANCE}, and the job in it runs "
            "the model's own code (trust_remote_code)\n"
            "    remedy: read that code; then evaluate a copy of the folder that is yours"
        )
    sources = [str(Path(path).absolute()) if Path(path).exists() else path for path in data]
    options = [option for path in sources for option in ("--data", path)]
    with tempfile.TemporaryDirectory(prefix="alignlaunch-") as scratch:
        job_file = Path(scratch) / "job.resolved.yaml"
        job_file.write_text(job, encoding="utf-8")
        arguments = [str(job_file), "--eval", str(trained.folder), *options]
        run(trained, "alignlaunch.train", *arguments, cwd=Path(working_dir))
    found: dict[str, Any] = json.loads((trained.folder / "eval.json").read_text(encoding="utf-8"))
    return found


def _python(trained: Trained) -> str:
    """ALIGNLAUNCH_PYTHON; else the python that trained this, if this machine has it; else the running one.

    Another user's provenance could name any program: then the running one.
    """
    trainer = "" if trained_folder.is_foreign(trained.folder) else str(trained.about.get("executable"))
    return os.environ.get("ALIGNLAUNCH_PYTHON") or (trainer if os.access(trainer, os.X_OK) else sys.executable)
