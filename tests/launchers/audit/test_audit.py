"""What is on disk is what the job renders to, or it is said and refused."""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.audit import drift, provenance
from alignlaunch.launchers.audit.drift import DriftError
from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.files import write_atomic
from alignlaunch.launchers.job import jobfile
from tests.conftest import MINIMAL, Cli

FILES = {"a.sh": "one\ntwo\n", "b.json": "{}"}


def test_ensure_writes_what_is_absent_and_then_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "launch" / "x"
    assert "wrote" in str(drift.ensure(folder, FILES, accept=False))
    assert {path.name: path.read_text() for path in folder.iterdir()} == FILES
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert drift.ensure(folder, FILES, accept=False) is None
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda folder: (folder / "a.sh").write_text("one\nTWO\n"), "-TWO\n+two\n"),
        (lambda folder: (folder / "a.sh").write_bytes(b"one\r\ntwo\r\n"), "-two\r\n+one\n"),
        (lambda folder: (folder / "a.sh").write_bytes(b"one\ntwo\n\xff"), "-\N{REPLACEMENT CHARACTER}\n"),
        (lambda folder: (folder / "a.sh").unlink(), "--- /dev/null\n"),
        (lambda folder: (folder / "b.json").write_text("{}\n"), "\\ No newline at end of file"),
    ],
)
def test_drift_is_refused_with_the_diff_and_accepted_with_write(tmp_path: Path, change: object, shown: str) -> None:
    drift.write(tmp_path, FILES)
    change(tmp_path)  # type: ignore[operator]
    with pytest.raises(DriftError) as caught:
        drift.ensure(tmp_path, FILES, accept=False)
    assert shown in str(caught.value)
    assert "accept it with --write" in str(caught.value)
    assert "rewrote" in str(drift.ensure(tmp_path, FILES, accept=True))
    assert {path.name: path.read_bytes().decode() for path in tmp_path.iterdir()} == FILES


def test_scripts_can_be_executed_and_nothing_half_written_stays(tmp_path: Path) -> None:
    drift.write(tmp_path, FILES)
    assert os.access(tmp_path / "a.sh", os.X_OK)
    assert not os.access(tmp_path / "b.json", os.X_OK)
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "a.sh", "new \ud800")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == FILES


@pytest.mark.parametrize("place", ["file/x", "/proc/x/y", "/dev/full/x"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        drift.write(tmp_path / place, FILES)


def test_check_is_clean_then_shows_the_drift_of_the_job(cli: Cli, job_file: Path, folder: Path) -> None:
    clean = cli("check")
    assert (clean.returncode, clean.stdout) == (0, "")
    assert "1 clean, 0 drifted" in clean.stderr
    job_file.write_text(MINIMAL + "nnodes: 7\n")
    drift = cli("check", folder)
    assert drift.returncode == 1
    assert "-nnodes: 1\n+nnodes: 7\n" in drift.stdout
    assert f"--- {folder}/job.resolved.yaml\n" in drift.stdout
    assert cli("check", job_file).returncode == 1  # as pre-commit calls it, with files
    assert cli("render", job_file, "--target", "bash").returncode == 0
    assert cli("check").returncode == 0


def test_check_sees_an_edited_artifact(cli: Cli, folder: Path) -> None:
    script = folder / "torchrun.sh"
    script.write_text(script.read_text().replace("set -euo pipefail", "set -u"))
    done = cli("check")
    assert done.returncode == 1
    assert "-set -u\n+set -euo pipefail\n" in done.stdout


def test_what_an_earlier_rendering_left_goes_and_what_others_put_there_stays(cli: Cli, folder: Path) -> None:
    (folder / "notes.md").write_text("mine\n")
    lock = json.loads((folder / "alignlaunch.lock").read_text())
    lock["files"]["zero9.json"] = "0"
    (folder / "alignlaunch.lock").write_text(json.dumps(lock))
    (folder / "zero9.json").write_text("{}\n")
    assert "+++ /dev/null\n@@ -1 +0,0 @@\n-{}\n" in cli("check").stdout
    assert cli("render", folder.parents[2] / "job.yaml").returncode == 0
    assert not (folder / "zero9.json").exists()
    assert (folder / "notes.md").read_text() == "mine\n"
    assert cli("check").returncode == 0


@pytest.mark.parametrize("hide", ["alignlaunch.lock", "run.json"])
def test_check_is_not_made_blind(cli: Cli, folder: Path, hide: str) -> None:
    """A lock that is gone, or an empty run.json, which marks the copies in run folders."""
    (folder / "torchrun.sh").write_text("#!/bin/bash\n")
    if hide == "run.json":
        (folder / hide).touch()
    else:
        (folder / hide).unlink()
    assert cli("check").returncode != 0


def test_what_check_and_render_found_as_json(cli: Cli, folder: Path, job_file: Path) -> None:
    (rendered,) = json.loads(cli("render", job_file, "--target", "bash", "--json").stdout)
    assert rendered == {"name": "tiny", "target": "bash", "folder": str(folder)}
    job_file.write_text(MINIMAL + "nnodes: 7\n")
    bad = job_file.parent / "a-bad"
    shutil.copytree(folder, bad)
    (bad / "alignlaunch.lock").write_text("{}")
    wrong, drifted = json.loads(cli("check", job_file.parent, "--json").stdout)
    assert (wrong["folder"], wrong["drift"], "not a lock file" in wrong["error"]) == (str(bad), "", True)
    assert (drifted["folder"], "nnodes: 1 → 7" in drifted["drift"], drifted["error"]) == (str(folder), True, "")


def test_check_goes_on_after_an_error(cli: Cli, folder: Path, job_file: Path) -> None:
    bad = job_file.parent / "a-bad"
    shutil.copytree(folder, bad)
    (bad / "alignlaunch.lock").write_text('{"target": "bash"}')
    done = cli("check")
    assert done.returncode == 2
    assert "1 clean, 0 drifted, 1 could not be checked" in done.stderr
    assert "a-bad/alignlaunch.lock: not a lock file" in done.stderr
    assert "Traceback" not in done.stderr


LOCK: dict[str, Any] = {"target": "bash", "job": {"path": "../../../job.yaml"}, "set": [], "cluster": None}


@pytest.mark.parametrize(
    "lock",
    [
        "",
        "{",
        "[]",
        "null",
        "\xff",
        "[" * 100_000,
        json.dumps({**LOCK, "target": "moon"}),
        json.dumps({**LOCK, "target": []}),
        json.dumps({**LOCK, "job": None}),
        json.dumps({**LOCK, "job": {"path": 3}}),
        json.dumps({**LOCK, "set": [3]}),
        json.dumps({**LOCK, "set": None}),
        json.dumps({**LOCK, "cluster": "x"}),
        json.dumps({**LOCK, "cluster": {"name": None}}),
    ],
    ids=lambda lock: ascii(lock)[:40],
)
def test_a_bad_lock(folder: Path, lock: str) -> None:
    (folder / "alignlaunch.lock").write_text(lock, encoding="latin-1")
    with pytest.raises(UsageError, match="not a lock file of alignlaunch"):
        drift.check(folder)


def test_a_job_file_that_is_gone_or_broken(cli: Cli, folder: Path, job_file: Path) -> None:
    job_file.write_text("name: [")
    broken = cli("check")
    assert (broken.returncode, "not YAML" in broken.stderr) == (2, True)
    job_file.unlink()
    gone = cli("check")
    assert (gone.returncode, "job.yaml is gone" in gone.stderr) == (2, True)


def test_check_of_nothing(cli: Cli) -> None:
    assert cli("check", "absent").returncode == 2
    assert cli("check", "x" * 5000).returncode == 2
    empty = cli("check")
    assert (empty.returncode, "0 clean" in empty.stderr) == (0, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_as_a_user(folder: Path) -> None:
    folder.chmod(0)
    try:
        with pytest.raises(UsageError, match="cannot be read"):
            list(drift.locked_folders(folder.parent))
    finally:
        folder.chmod(0o755)


def test_what_cannot_be_read_is_an_error_and_never_clean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:  # root, who runs CI, may read whatever its mode is
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(UsageError, match="cannot be read: Permission denied"):
            drift.diff(folder, FILES)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        with pytest.raises(UsageError, match="cannot be read: Permission denied"):
            list(drift.locked_folders(folder))


def test_set_and_cluster_are_in_the_lock_and_rendered_again(cli: Cli, tmp_path: Path, job_file: Path) -> None:
    (tmp_path / "clusters").mkdir()
    profile = tmp_path / "clusters" / "lab.yaml"
    profile.write_text("slurm: {partition: gpu}\n")
    options = ["--set", "nnodes=3", "--set", "env.A=a 'b' $c", "--as", "three", "--cluster", "lab"]
    assert cli("render", job_file, *options).returncode == 0
    assert cli("check").returncode == 0
    profile.write_text("slurm: {partition: cpu}\n")
    differs = cli("check")
    assert (differs.returncode, "-#SBATCH --partition=gpu\n+#SBATCH --partition=cpu\n" in differs.stdout) == (1, True)
    profile.unlink()
    assert cli("check").returncode == 2


def test_the_lock_holds_the_sha256_of_the_files_on_disk_and_of_the_job(folder: Path, job_file: Path) -> None:
    lock = json.loads((folder / "alignlaunch.lock").read_text())
    on_disk = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del on_disk["alignlaunch.lock"]
    assert lock["files"] == on_disk
    assert lock["job"]["sha256"] == jobfile.load(job_file).digest


def test_the_copies_in_run_folders_do_not_count(folder: Path, job_file: Path) -> None:
    run = job_file.parent / "runs" / "tiny-1"
    shutil.copytree(folder, run)
    (run / provenance.FILE).write_text('{"name": "tiny"}')
    assert list(drift.locked_folders(job_file.parent)) == [folder]
