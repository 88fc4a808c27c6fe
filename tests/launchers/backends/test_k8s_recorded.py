"""What `status` and `diagnose` say of the thirteen jobs of a real cluster (tests/k8s/recordings)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.backends.k8s import status
from alignlaunch.launchers.diagnose import report
from alignlaunch.launchers.diagnose.gather import Evidence
from alignlaunch.launchers.runs.records import Status

RECORDINGS = Path(__file__).parents[2] / "k8s/recordings"
NOW = datetime(2026, 11, 28, 3, 1, 42, tzinfo=UTC)


def items(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RECORDINGS / f"{kind}.json").read_text())["items"]
    return found


JOBS = {job["metadata"]["name"]: job | {"kind": "PyTorchJob"} for job in items("pytorchjobs")}
#: Job → state, exit code, what the reason says, verdict.
TOLD: dict[str, tuple[str, int | None, str, str]] = {
    "succeeded": ("COMPLETED", 0, "", "completed"),
    "running": ("RUNNING", None, "", "going"),
    "failed3": ("FAILED", 3, "failed3-master-0: exit code 3; failed3-worker-0: exit code 3", "unknown"),
    "oom": ("OUT_OF_MEMORY", 137, "oom-master-0: exit code 137, OOMKilled", "host-oom"),
    "no-image": ("PENDING", None, "no-image-master-0: ImagePullBackOff: Back-off pulling image", "image"),
    "no-room": ("PENDING", None, "no-room-master-0: 0/1 nodes are available: 1 Insufficient cpu", "no-room"),
    "missing-secret": (
        "PENDING",
        None,
        'missing-secret-master-0: CreateContainerConfigError: secret "nope" not found',
        "container-config",
    ),
    "exitcode-permanent": ("FAILED", 1, "exitcode-permanent-master-0: exit code 1", "unknown"),
    "exitcode-retryable": ("RUNNING", None, "", "going"),
    "onfailure": (
        "FAILED",
        None,
        "Job onfailure has failed because it has reached the specified backoff limit; Error: Error pod "
        "onfailure-master-0 container pytorch exitCode: 1",
        "unknown",
    ),
    "run-deadline": ("RUNNING", None, "", "going"),
    "pod-deadline": ("TIMEOUT", 137, "the time limit", "time-limit"),
    "pod-deleted": ("FAILED", None, "pod-deleted-worker-0 is gone: deleted, evicted, or its node was lost", "pod-gone"),
}


def found(name: str) -> Status:
    pods = [one for one in items("pods") if one["metadata"]["labels"][status.JOB_LABELS["PyTorchJob"]] == name]

    def warnings(of: str) -> list[dict[str, Any]]:
        return [one for one in items("events") if one["type"] == "Warning" and one["involvedObject"]["name"] == of]

    return status.of(JOBS[name], pods, warnings, lambda _: None, NOW)


def test_every_recorded_job_is_looked_at() -> None:
    assert JOBS.keys() == TOLD.keys()


@pytest.mark.parametrize("name", TOLD)
def test_its_state(name: str) -> None:
    told, (state, code, reason, _) = found(name), TOLD[name]
    assert (told.state, told.exit_code) == (state, code)
    assert told.reason.startswith(reason)
    assert bool(told.reason) == bool(reason)


@pytest.mark.parametrize("name", TOLD)
def test_the_verdict_without_a_log(name: str) -> None:
    evidence = Evidence(f"k8s://rec/rec/{name}", status=found(name))
    evidence.close()
    verdict = report.of(evidence)
    assert verdict.name == TOLD[name][-1], verdict
    assert not [word for word in ("sinfo", "sacct", "scontrol", "requeue") if word in verdict.remedy]
