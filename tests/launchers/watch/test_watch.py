"""Many runs cost few questions. A stub squeue counts them; what Slurm really answers is tested in tests/slurm/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status

SQUEUE = r"""#!/bin/bash
here=$(dirname "$0")
for argument; do
    case $argument in
        --jobs=*) ids=${argument#--jobs=} ;;
        --clusters=*) echo "squeue: error: '${argument#*=}' can't be reached now" >&2; exit 1 ;;
    esac
done
echo "squeue $ids" >> "$here/calls"
IFS=,
for id in $ids; do
    if ((id % 2)); then echo "$id|RUNNING|None|0:0|n[1-2]|/runs/many/.submission_file_1.sh|"
    else echo "$id|COMPLETED|None|0:0|n1|/runs/${FOUND:-many}/.submission_file_1.sh|"; fi
done
"""
SCONTROL = "#!/bin/bash\necho 'ClusterName = c'\n"
SACCT = '#!/bin/bash\necho "sacct $*" >> "$(dirname "$0")/calls"\n'


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """1,000 Slurm runs in the record, none of them known to have ended; returns the stubs' folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    records.save([Run(f"slurm://c/{i}", "many", "/runs/many", "", status=Status("PENDING")) for i in range(1, 1001)])
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, text in {"squeue": SQUEUE, "sacct": SACCT, "scontrol": SCONTROL}.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    return bin_


def list_runs(bin_: Path, found: str = "many") -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "alignlaunch.launchers.cli", "list", "-n", "1000", "--json"],
        env={**os.environ, "PATH": f"{bin_}{os.pathsep}/usr/bin:/bin", "FOUND": found},
        capture_output=True,
        text=True,
        check=True,
    )
    shown: list[dict[str, object]] = json.loads(done.stdout)
    return shown


def calls(bin_: Path) -> list[str]:
    return [line.split()[0] for line in (bin_ / "calls").read_text().splitlines()]


def test_a_thousand_runs_cost_one_call(recorded: Path) -> None:
    shown = list_runs(recorded)
    assert calls(recorded) == ["squeue"]
    assert [run["state"] for run in shown] == ["COMPLETED", "RUNNING"] * 500


def test_what_has_ended_is_asked_for_while_slurm_may_requeue_it(recorded: Path) -> None:
    list_runs(recorded)
    forgetful = SQUEUE.replace("if ((id % 2)); then", "if ((id % 2)); then continue; fi; if ((id == 1000)); then")
    (recorded / "squeue").write_text(forgetful)
    states = {run["handle"]: run["state"] for run in list_runs(recorded)}
    _, second, accounts = (recorded / "calls").read_text().splitlines()
    assert "1000" in second
    assert states["slurm://c/1000"] == "RUNNING"  # requeued
    assert states["slurm://c/998"] == "COMPLETED"
    assert states["slurm://c/999"] == "UNKNOWN"
    asked = accounts.partition("--jobs=")[2].split()[0].split(",")
    assert len(asked) == 500  # the accounts are asked for those only whose end was not known
    assert "999" in asked


def test_what_has_ended_is_told_when_slurm_is_away(recorded: Path) -> None:
    list_runs(recorded)
    (recorded / "squeue").write_text("#!/bin/bash\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    status = [sys.executable, "-m", "alignlaunch.launchers.cli", "status", "--json"]
    env = {**os.environ, "PATH": f"{recorded}{os.pathsep}/usr/bin:/bin"}
    done = subprocess.run([*status, "slurm://c/1000"], env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["state"] == "COMPLETED"
    assert subprocess.run([*status, "slurm://c/999"], env=env, capture_output=True, check=False).returncode == 3


def test_a_job_from_another_run_folder_is_not_ours(recorded: Path) -> None:
    """Another cluster, or this one after its ids began anew, has other jobs with the same ids."""
    shown = list_runs(recorded, found="stranger")
    assert {run["state"] for run in shown} == {"RUNNING", "UNKNOWN"}
    assert calls(recorded) == ["squeue", "sacct"]


def test_a_stranger_whose_words_the_accounts_have_not_yet_is_not_ours(recorded: Path) -> None:
    """slurmdbd has a new job's line a moment before it has the command line that submitted it."""
    (recorded / "sacct").write_text("#!/bin/bash\necho '1000|PENDING|0:0|None|None assigned|'\n")
    states = {run["handle"]: run["state"] for run in list_runs(recorded, found="stranger")}
    assert states["slurm://c/1000"] == "UNKNOWN"


def test_a_job_of_another_cluster_keeps_its_last_known_state(recorded: Path) -> None:
    records.save([Run("slurm://elsewhere/2000", "far", "", "", status=Status("RUNNING"))])
    (far,) = [run for run in list_runs(recorded) if run["name"] == "far"]
    assert (far["state"], far["reason"]) == ("RUNNING", "not seen from c")
    for command in ("cancel", "wait"):
        done = subprocess.run(
            [sys.executable, "-m", "alignlaunch.launchers.cli", command, "slurm://elsewhere/2000"],
            env={**os.environ, "PATH": f"{recorded}{os.pathsep}/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "cluster elsewhere cannot be asked from here; this is c" in done.stderr) == (2, True)


def test_the_list_is_shown_when_slurm_is_away(recorded: Path) -> None:
    (recorded / "squeue").write_text("#!/bin/bash\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "alignlaunch.launchers.cli", "list"],
        env={**os.environ, "PATH": f"{recorded}{os.pathsep}/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stdout.count("PENDING") == 20
    assert "the states of its runs above are the last known ones" in done.stderr


def test_a_place_that_cannot_be_asked_hides_no_other(recorded: Path) -> None:
    """Two clusters whose contexts are gone, one of them twice."""
    places = ("old/lab", "old/lab", "older/lab")
    gone = [Run(f"k8s://{place}/{i}", "far", "", "", status=Status("RUNNING")) for i, place in enumerate(places)]
    records.save(gone)
    done = subprocess.run(
        [sys.executable, "-m", "alignlaunch.launchers.cli", "list", "-n", "5"],
        env={**os.environ, "PATH": f"{recorded}{os.pathsep}/usr/bin:/bin", "KUBECONFIG": "/no"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line.split()[2] for line in done.stdout.splitlines()[1:]] == [*["RUNNING"] * 3, "COMPLETED", "RUNNING"]
    assert (done.returncode, done.stderr.count("error: no kubeconfig that can be read")) == (2, 1)
