"""Answers of schedulers, with damage: Slurm's text, and what a Kubernetes API sends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from alignlaunch.launchers.backends.k8s import refusals, status
from alignlaunch.launchers.backends.slurm import answers, client, submission
from alignlaunch.launchers.runs.records import Run
from alignlaunch.launchers.watch import words
from tests.slurm.recorded import FOLDER, OWN, VERSIONS, answer

from .target import Target
from .values import altered, damaged

_K8S = Path(__file__).parents[1] / "k8s/recordings"
_NOW = datetime(2026, 11, 28, 3, 1, 42, tzinfo=UTC)


def _recorded(kind: str, versions: list[str]) -> list[bytes]:
    """What a command wrote to stdout, in every recording of it."""
    paths = [path for version in versions for path in (FOLDER / version).glob(f"{kind}*.txt")]
    return [answer(path.parent.name, path.stem).stdout.encode() for path in paths]


def _text(value: bytes) -> str:
    return value.decode(errors="replace")  # as `shell.run` does


def _said(found: list[answers.ReportedJob]) -> None:
    for job in found:
        words.describe(Run(f"slurm://lab/{job.id}", "tiny", "", "", status=job.status))


def _refusal(_: Path, value: bytes) -> None:
    raise submission.refused(_text(value), "#!/bin/bash\n#SBATCH --time=5\n#SBATCH --partition=x\n")


def _items(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((_K8S / f"{kind}.json").read_text())["items"]
    return found


_events = _items("events")
_of_a_job = st.sampled_from(_items("pytorchjobs")).flatmap(
    lambda job: st.tuples(
        altered(job | {"kind": "PyTorchJob"}),
        altered([pod for pod in _items("pods") if pod["metadata"]["name"].startswith(job["metadata"]["name"])]),
        st.lists(st.sampled_from(_events).flatmap(altered), max_size=2),
    )
)


def _status(_: Path, value: tuple[Any, Any, Any]) -> None:
    job, pods, events = value
    with refusals.while_querying("lab", "default"):
        found = status.of(job, pods, lambda _: events, lambda _: events[0] if events else None, _NOW)
    words.describe(Run("k8s://lab/default/tiny", "tiny", "", "", status=found))


TARGETS = {
    "squeue": Target(
        damaged(_recorded("squeue-[dlr]", OWN)),
        lambda _, value: _said(answers.squeue(_text(value), client._SQUEUE_FIELDS)),
    ),
    "sacct": Target(
        damaged(_recorded("sacct", OWN)), lambda _, value: _said(answers.sacct(_text(value), client._SACCT_FIELDS))
    ),
    "scontrol show job": Target(
        damaged(_recorded("scontrol", [*OWN, *VERSIONS])),
        lambda _, value: (answers.shown_jobs(_text(value)), answers.cluster_name(_text(value))),
    ),
    "sinfo": Target(damaged(_recorded("sinfo", [*OWN, *VERSIONS])), lambda _, value: answers.sinfo(_text(value))),
    "sbatch": Target(damaged(_recorded("sbatch-ok", OWN)), lambda _, value: answers.submitted(_text(value))),
    "sbatch's refusals": Target(
        damaged([answer(version, "sbatch-bad-partition").stderr.encode() for version in OWN]), _refusal
    ),
    "Kubernetes": Target(_of_a_job, _status),
}
