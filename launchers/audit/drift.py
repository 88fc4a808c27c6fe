"""Keeps the promise that the script which runs is the script in git: writes rendered files, finds drift, asks git."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from ..errors import LaunchError, UsageError
from ..files import unreadable, unwritable, write_atomic
from ..job import differences, jobfile, pipeline
from ..job.job import Job
from ..job.pipeline import Pipeline
from ..render import array, origin, render
from ..render.render import CONFIGMAP, LOCK, MANIFESTS, RESOLVED, SBATCH, TORCHRUN, Target
from . import git, provenance


class DriftError(LaunchError):
    """What lies on disk is not what the job renders to (exit 1)."""


def folder_of(job_: Job, target: Target) -> Path:
    """`launch/<name>/<target>/` beside the job file, or for a point of a sweep a folder in its sweep's."""
    return job_.dir / job_.folder(target)


def artifacts(job_: Job, target: Target, folder: Path) -> dict[str, str]:
    """The files that the job renders to, for `folder`: {file name: text}."""
    return render.render(job_, target, os.path.relpath(job_.path, folder))


def diff(folder: Path, files: dict[str, str]) -> str:
    """What differs between the files in `folder` and `files`; empty if the same would run.

    First in the job's own words, then as a unified diff. Files left by an earlier rendering count too. Where an
    artifact came from (a line in it, the version in the lock) does not: an upgrade of alignlaunch is no drift. Raises
    UsageError for a folder or file that cannot be read.
    """
    try:
        before = _read(folder, {*files, *_outdated(folder, files)})
    except OSError as error:
        raise unreadable(error) from error
    shown = "".join(_unified(folder, before, files)) or _lock_differs(folder, before, files)
    said = differences.between(_job_in(before), _job_in(files)) if shown else []
    return "".join(f"{folder}: {line}\n" for line in said) + shown


def read(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The files of these names in `folder`, to the byte. Raises UsageError."""
    try:
        return {name: (folder / name).read_bytes().decode("utf-8") for name in names}
    except UnicodeDecodeError as error:
        raise UsageError(f"{folder}: a file is not UTF-8 text ({error})\n    remedy: render again") from error
    except OSError as error:
        raise unreadable(error) from error


def _read(folder: Path, names: Iterable[str]) -> dict[str, str]:
    paths = [folder / name for name in names]
    return {path.name: path.read_bytes().decode("utf-8", errors="replace") for path in paths if path.is_file()}


def _unified(folder: Path, before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after} - {LOCK}):
        old, new = before.get(name), after.get(name)
        path = folder / name
        for line in difflib.unified_diff(
            origin.without(old or "").splitlines(keepends=True),
            origin.without(new or "").splitlines(keepends=True),
            str(path) if old is not None else "/dev/null",
            f"{path} (as rendered)" if new is not None else "/dev/null",
        ):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lock_differs(folder: Path, before: dict[str, str], after: dict[str, str]) -> str:
    """What is wrong with the lock in `folder`, whose other files are as they should be; empty if nothing is."""
    path = folder / LOCK
    if LOCK not in after:
        return ""
    try:
        old, new = (json.loads(one[LOCK]) for one in (before, after))
        listed = {name: render.digest(text) for name, text in before.items() if name != LOCK}
        if old["files"] != listed:
            return f"{path}: not the digests of the files beside it\n"
        differ = differences.between(_locked(old), _locked(new))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return f"{path}: missing, or not a lock file\n"
    return "".join(f"{path}: {line}\n" for line in differ)


def _locked(lock: dict[str, Any]) -> dict[str, Any]:
    """What a lock says besides digests, the version that rendered it, and the changes that the artifacts show."""
    cluster = lock["cluster"]["name"] if lock["cluster"] else None
    return {key: lock.get(key) for key in ("target", "pipeline")} | {
        "job": lock["job"]["path"],
        "cluster": cluster,
    }


def _job_in(files: dict[str, str]) -> dict[str, Any]:
    """The resolved job among some files; empty if there is none that can be read."""
    try:
        text = files[RESOLVED] if RESOLVED in files else yaml.safe_load(files[CONFIGMAP])["data"][RESOLVED]
        found = yaml.safe_load(text)
    except (KeyError, TypeError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write(folder: Path, files: dict[str, str]) -> None:
    """Put `files` into `folder` each atomically: no reader sees half a file, not even after a crash.

    Files of an earlier rendering go; what anybody else put there stays.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        outdated = _outdated(folder, files)
        for name, text in files.items():
            write_atomic(folder / name, text)
        for name in outdated:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def _outdated(folder: Path, files: dict[str, str]) -> set[str]:
    """Files that the lock in `folder` lists and that still exist there, but are no longer rendered."""
    try:
        listed = json.loads((folder / LOCK).read_text(encoding="utf-8"))["files"]
        names = {str(name) for name in listed}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    return {name for name in names if Path(name).name == name and (folder / name).is_file()} - set(files)


def ensure(folder: Path, files: dict[str, str], *, accept: bool, dry: bool = False) -> str | None:
    """Make `folder` hold `files`. Absent: written. Different: DriftError with the diff, or with `accept` overwritten.

    Returns what was done, for the user; None if nothing was needed. dry: only raise.
    """
    done = f"rewrote {folder}" if folder.exists() else f"wrote {folder} (commit it for the audit)"
    if folder.exists():
        drift = diff(folder, files)
        if not drift:
            return None
        if not accept:
            raise DriftError(
                f"{drift}{folder} is not what the job file renders to; nothing was submitted\n"
                "    remedy: look at the diff; accept it with --write"
            )
    if dry:
        return None
    write(folder, files)
    return done


def require_committed(folder: Path) -> None:
    """Raise DriftError unless every file of `folder` is in git as it is on disk."""
    dirty = git.uncommitted(folder)
    if dirty is None:
        raise DriftError(f"{folder} is in no git repository\n    remedy: git init; git add; git commit")
    if dirty:
        raise DriftError(f"not committed: {', '.join(dirty)}\n    remedy: git add {folder} && git commit")


def locked_folders(path: Path) -> Iterator[Path]:
    """Every artifact folder at or below `path`, recognised by its lock file, or by our scripts if the lock was deleted.

    The copies in run folders, which hold a run.json, do not count.
    """

    def fail(error: OSError) -> None:
        raise unreadable(error)

    for root, folders, files in os.walk(path, onerror=fail):
        folders[:] = sorted(name for name in folders if name not in (".git", ".venv"))
        pairs = [(RESOLVED, SBATCH), (RESOLVED, TORCHRUN), *((CONFIGMAP, name) for name in MANIFESTS.values())]
        ours = LOCK in files or any({*pair} <= {*files} for pair in pairs)
        if ours and not provenance.read(Path(root)):
            yield Path(root)


def check(folder: Path) -> str:
    """Render `folder` again from its job file: the diff, empty if clean. Raises UsageError if that cannot be done."""
    lock = _read_lock(folder / LOCK)
    return diff(folder, _rendered_again(folder, lock))


def _rendered_again(folder: Path, lock: dict[str, Any]) -> dict[str, str]:
    """The files that belong to the lock, from what it was made from."""
    step = lock.get("pipeline")
    path = Path(os.path.normpath(folder / (step or lock["job"])["path"]))
    overrides, cluster = tuple(lock["set"]), lock["cluster"]["name"] if lock["cluster"] else None
    remedy = f"restore it, or remove {folder}"
    if not path.is_file():
        raise UsageError(
            f"{folder / LOCK}: its {'pipeline' if step else 'job'} file {path} is gone\n    remedy: {remedy}"
        )
    if step is None:
        return artifacts(jobfile.load(path, overrides, cluster), lock["target"], folder)
    found = pipeline.load(path, overrides, cluster)
    if (step["step"] or "") in found.sweeps:
        return array_of(found, step["step"] or "", folder)
    if step["step"] not in found.jobs:
        raise UsageError(f"{folder / LOCK}: its step {step['step']} of {path} is gone\n    remedy: {remedy}")
    return artifacts(found.jobs[step["step"]], lock["target"], folder)


def array_of(found: Pipeline, step: str, folder: Path) -> dict[str, str]:
    """The files of the array on Slurm that a step is, for `folder`. Raises UsageError for points that cannot be one."""
    points = [found.jobs[point] for point in found.sweeps[step]]
    return array.files(points, step or None, os.path.relpath(points[0].path, folder))


def _is_step(entry: dict[str, Any]) -> bool:
    return isinstance(entry["path"], str) and isinstance(entry["step"], str | None)


def _read_lock(path: Path) -> dict[str, Any]:
    remedy = "render again"
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        valid = (
            lock["target"] in render.TARGETS
            and isinstance(lock["job"]["path"], str)
            and all(isinstance(item, str) for item in lock["set"])
            and (lock["cluster"] is None or isinstance(lock["cluster"]["name"], str))
            and ("pipeline" not in lock or _is_step(lock["pipeline"]))
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: not a lock file of alignlaunch ({error})\n    remedy: {remedy}") from error
    if not valid:
        raise UsageError(f"{path}: not a lock file of alignlaunch\n    remedy: {remedy}")
    result: dict[str, Any] = lock
    return result
