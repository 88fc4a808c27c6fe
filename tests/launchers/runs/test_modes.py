"""Who else may read what alignlaunch writes: nobody, but where a folder was made for several users."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.retry import attempts
from alignlaunch.launchers.retry.decision import Decision, Ended
from alignlaunch.launchers.runs import bad_nodes, claim, records, runfolder
from alignlaunch.launchers.runs.bad_nodes import BadNode
from alignlaunch.launchers.runs.records import Run, Status
from tests.launchers.job.job_files import write

BAD = BadNode("n1", "xid", "tiny-1", 4e9)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def wide_umask() -> Iterator[None]:
    """A user whose other files may be read by everybody, and written by the group."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def a_run(folder: Path) -> Path:
    with runfolder.create(jobfile.load(write(folder)), {"job.sbatch": "#!/bin/bash\n", "a.json": "{}"}) as made:
        attempts.add(made, attempts.Recorded(1.0, Ended("xid", None, 1, 5), Decision(again=True, why=""), "x"))
    return made


def test_a_run_folder_is_the_users_alone(tmp_path: Path) -> None:
    made = a_run(tmp_path)
    assert mode(made) == 0o700
    files = {path.name: mode(path) for path in made.iterdir()}
    assert files == {"job.sbatch": 0o700, "a.json": 0o600, "attempts.jsonl": 0o600}
    assert mode(made.parent) == 0o775  # colleagues may submit from the same folder


def test_a_group_that_shares_its_folder_reads_its_runs(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o2775)
    made = a_run(tmp_path)
    assert mode(made) & 0o777 == 0o750
    assert mode(made / "a.json") == 0o640  # and nobody but the user changes what the job reads


def test_what_goes_into_git_has_the_users_own_permissions(tmp_path: Path) -> None:
    drift.write(tmp_path / "launch/tiny/bash", {"torchrun.sh": "", "job.resolved.yaml": ""})
    assert mode(tmp_path / "launch/tiny/bash") == 0o775
    assert mode(tmp_path / "launch/tiny/bash/torchrun.sh") == 0o775
    assert mode(tmp_path / "launch/tiny/bash/job.resolved.yaml") == 0o664


def test_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    records.save([Run("local://tiny-1", "tiny", "", "")])
    assert mode(tmp_path / "state/alignlaunch") == 0o700
    assert mode(tmp_path / "state/alignlaunch/runs.sqlite") == 0o600
    assert records.load()[0].name == "tiny"


def test_a_record_of_an_earlier_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    records.save([Run("local://tiny-1", "tiny", "", "")])
    (tmp_path / "alignlaunch").chmod(0o755)
    (tmp_path / "alignlaunch/runs.sqlite").chmod(0o644)
    records.save([Run("local://tiny-2", "tiny", "", "")])
    assert len(records.load()) == 2
    assert mode(tmp_path / "alignlaunch/runs.sqlite") == 0o644


@pytest.mark.parametrize(("of_folder", "of_file"), [(0o755, 0o600), (0o775, 0o660), (0o777, 0o666), (0o700, 0o600)])
def test_shared_files_are_as_shared_as_their_folder(tmp_path: Path, of_folder: int, of_file: int) -> None:
    os.umask(0o077)  # a colleague with this umask must not lock the others out
    output = tmp_path / "output"
    output.mkdir()
    output.chmod(of_folder)
    run = Run("local://tiny-1", "tiny", str(tmp_path / "runs/tiny-1"), "", output_dir=str(output))
    claim.take(run, None)
    assert mode(output / claim.FILE) == of_file
    claim.update(run.with_status(Status("COMPLETED")))
    assert mode(output / claim.FILE) == of_file
    bad_nodes.add(output / "bad.jsonl", BAD)
    bad_nodes.add(output / "bad.jsonl", BAD)
    assert mode(output / "bad.jsonl") == of_file
    assert len((output / "bad.jsonl").read_text().splitlines()) == 2


#: Run as somebody else: prints what it could do, as JSON.
AS_ANOTHER = """
import json, sys
from pathlib import Path
from alignlaunch.launchers.backends import registry
from alignlaunch.launchers.runs import claim
from alignlaunch.launchers.runs.records import Run, Status
run_dir, output = map(Path, sys.argv[1:])
told = {}
for name, path in {"run folder": run_dir, "file": run_dir / "a.json", "claim": output / claim.FILE}.items():
    try:
        told[name] = sorted(map(str, path.iterdir())) if path.is_dir() else path.read_text()
    except PermissionError:
        told[name] = None
run = Run("local://tiny-1", "tiny", str(run_dir), "", output_dir=str(output), status=Status("RUNNING"))
told["state"] = registry.of("local").statuses([run])[run.handle].state
try:
    claim.take(run, None)
    told["taken"] = ""
except Exception as error:
    told["taken"] = type(error).__name__ + ": " + str(error)
print(json.dumps(told))
"""


@pytest.fixture
def for_others(tmp_path: Path) -> Path:
    """A folder that every user may enter."""
    if os.getuid() != 0:
        pytest.skip("needs root, to be another user")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


def as_another(*arguments: str | Path) -> dict[str, object]:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", AS_ANOTHER]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("of_folder", [0o755, 0o777])
def test_another_user(for_others: Path, of_folder: int) -> None:
    """Reads nothing of a run, may not take its output folder, and does not think that it has ended."""
    made, output = a_run(for_others), for_others / "output"
    output.mkdir()
    output.chmod(of_folder)
    run = Run("local://tiny-1", "tiny", str(made), "", output_dir=str(output), status=Status("RUNNING"))
    claim.take(run, None)
    told = as_another(made, output)
    assert told["run folder"] is None
    assert told["file"] is None
    assert (told["claim"] is None) == (of_folder == 0o755)
    assert told["state"] == "RUNNING"
    assert str(told["taken"]).startswith("UsageError"), told
    assert ("tiny (local://tiny-1" in str(told["taken"])) == (of_folder == 0o777)
