"""What a run was made from: enough to run it again, a year later."""

from __future__ import annotations

import getpass
import json
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

import alignlaunch

from ..job.job import Job
from ..render.render import Target, digest
from . import git


class PipelineStep(TypedDict):
    """The step of a pipeline file that a run's job is."""

    path: str
    step: str


FILE = "run.json"
#: Types of what is read of a run.json again, which may be another user's. A value of another type counts as absent.
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("nnodes", "nproc_per_node"), Annotated[int, Meta(ge=1)]),
    **dict.fromkeys(("name", "launcher", "job_file", "job_sha256"), str),
    "cluster": str | None,
    "point": str | None,
    "max_parallel": Annotated[int, Meta(ge=1)] | None,
    "suspended": bool,
    "set": list[str],
    "varies": list[str],
    "pipeline": PipelineStep | None,
}


def describe(
    job: Job, target: Target, files: dict[str, str], command: list[str], *, suspended: bool = False
) -> dict[str, Any]:
    """The provenance of one submission. Names of secrets only; their values are nowhere in it."""
    return {
        "alignlaunch": alignlaunch.__version__,
        "name": job.spec.name,
        "stage": job.spec.stage,
        "target": target,
        "launcher": job.spec.launcher,
        "nnodes": job.nnodes,
        "nproc_per_node": job.spec.nproc_per_node,
        "job_file": str(job.path.resolve()),
        "job_sha256": job.digest,
        "pipeline": {"path": str(job.step.pipeline.resolve()), "step": job.step.name} if job.step else None,
        "cluster": job.cluster_name,
        "cluster_sha256": job.cluster_digest if job.cluster_name else None,
        "point": job.point.label if job.point else None,
        "max_parallel": job.point.most if job.point else None,
        "suspended": suspended,
        "set": list(job.overrides),
        "varies": list(job.varies),
        "artifacts": {name: digest(text) for name, text in files.items()},
        "git_commit": git.commit(job.dir),
        "git_dirty": git.is_dirty(job.dir),
        "command_line": shlex.join(["alignlaunch", *sys.argv[1:]]),
        "submit_command": command,
        "secrets": job.spec.secrets,
        "python": sys.executable,
        "python_version": platform.python_version(),
        "user": _user(),
        "host": platform.node(),
        "submitted_at": now(),
    }


def read(run_dir: Path) -> dict[str, Any]:
    """`run.json` of a run folder; empty if there is none that can be read."""
    try:
        data = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: value for name, value in data.items() if _fits(name, value)} if isinstance(data, dict) else {}


def _fits(name: str, value: Any) -> bool:
    try:
        msgspec.convert(value, _TYPES.get(name, Any))
    except msgspec.ValidationError:
        return False
    return True


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """USER on HOST."""
    return f"{_user()} on {platform.node()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's numeric user has no name
        return "unknown"
