"""An output folder has one run at a time, whoever submitted it, and a job that its scheduler has is never forgotten."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alignlaunch.launchers import trained
from alignlaunch.launchers.audit import provenance
from alignlaunch.launchers.backends import registry
from alignlaunch.launchers.backends.local import LocalBackend
from alignlaunch.launchers.backends.slurm.backend import SlurmBackend
from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import pipeline
from alignlaunch.launchers.runs import claim, processes, records
from alignlaunch.launchers.runs.records import Run, Status
from alignlaunch.launchers.submit import steps
from alignlaunch.launchers.watch import states
from tests.conftest import MINIMAL
from tests.support.stub_slurm import JOB, StubSlurm


def run(folder: Path, handle: str = "local://a", state: str = "RUNNING") -> Run:
    return Run(handle, "job", run_dir=str(folder / handle[-1]), log="", output_dir=str(folder), status=Status(state))


def test_two_at_once_cannot_both_have_it(tmp_path: Path) -> None:
    """Also where both saw that the run before them has ended."""
    before = run(tmp_path, "local://0", "COMPLETED")
    claim.take(before, None)
    got: list[str] = []
    start = threading.Barrier(8)

    def attempt(one: Run) -> None:
        start.wait()
        try:
            claim.take(one, before)
        except UsageError:
            return
        got.append(one.handle)

    threads = [threading.Thread(target=attempt, args=(run(tmp_path, f"local://{i}"),)) for i in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    owner = claim.owner(str(tmp_path))
    assert owner
    assert owner.handle == got[0]


def test_what_another_person_submitted_is_refused(tmp_path: Path) -> None:
    claim.take(run(tmp_path), None)
    with pytest.raises(UsageError, match=r"job \(local://a, RUNNING\), submitted by \S+ on \S+, writes there"):
        claim.take(run(tmp_path, "local://b"), None)


def test_a_folder_that_was_given_back_is_free(tmp_path: Path) -> None:
    claim.take(run(tmp_path), None)
    claim.release(run(tmp_path, "local://b"))  # not its own to give
    assert claim.owner(str(tmp_path)) is not None
    claim.release(run(tmp_path))
    claim.take(run(tmp_path, "local://b"), None)


@pytest.fixture
def stub(tmp_path: Path) -> StubSlurm:
    (tmp_path / "job.yaml").write_text(JOB)
    return StubSlurm.create(tmp_path / "bin")


def environment(tmp_path: Path, stub: StubSlurm) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ALIGNLAUNCH", "XDG_", "S"))}
    return {**clean, "HOME": str(tmp_path / "home"), "PATH": str(stub.bin)}


def test_a_submission_that_is_killed_after_sbatch_took_the_job_is_found_again(
    tmp_path: Path, stub: StubSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 between the answer of sbatch and the record: the row was there before."""
    (stub.bin / "sbatch").write_text(f"#!/bin/bash\n: > {tmp_path}/asked\nexec /bin/sleep 30\n")
    submit = [sys.executable, "-m", "alignlaunch.launchers.cli", "slurm", "job.yaml", "--no-data-check"]
    env = environment(tmp_path, stub)
    with subprocess.Popen(submit, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        end = time.monotonic() + 60
        while not (tmp_path / "asked").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    monkeypatch.setenv("HOME", env["HOME"])
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("PATH", env["PATH"])
    (row,) = records.load()
    assert row.status.state == "SUBMITTING"
    assert Path(row.run_dir).is_dir()
    assert not processes.is_running(processes.read(Path(row.run_dir) / states.SUBMITTER))

    (stub.bin / "squeue").write_text("#!/bin/sh\nexit 0\n")
    (stub.bin / "squeue").chmod(0o755)
    (lost,) = states.refresh([row])
    assert (lost.status.state, "its submission was cut off" in lost.status.reason) == ("UNKNOWN", True)
    Path(row.run_dir, f"{row.name}-42.out").write_text("it runs\n")
    (found,) = states.find(row.handle)
    assert (found.handle, found.log) == ("slurm://stub/42", f"{row.run_dir}/{row.name}-42.out")
    assert [one.handle for one in records.load()] == ["slurm://stub/42"]
    owner = claim.owner(row.output_dir)
    assert owner
    assert owner.handle == "slurm://stub/42"


def test_a_broken_record_keeps_no_job_from_running(tmp_path: Path, stub: StubSlurm) -> None:
    record = tmp_path / "home/.local/state/alignlaunch/runs.sqlite"
    record.parent.mkdir(parents=True)
    record.write_text("this is no database, but has more than enough letters\n" * 20)
    submit = [sys.executable, "-m", "alignlaunch.launchers.cli", "slurm", "job.yaml", "--no-data-check"]
    done = subprocess.run(
        submit, cwd=tmp_path, env=environment(tmp_path, stub), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "slurm://stub/42"
    assert "the record of runs cannot be read" in done.stderr
    assert f"mv {record} {record}.broken" in done.stderr


def test_a_record_that_somebody_else_writes_to_is_not_to_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    records.save([run(tmp_path)])
    monkeypatch.setattr(records, "_TIMEOUT_SECONDS", 0.1)
    with sqlite3.connect(tmp_path / "alignlaunch/runs.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UsageError, match=r"database is locked\)\n +remedy: try again"):
            records.load()
        other.rollback()


def test_a_handle_that_comes_again_is_the_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Kubernetes name, or Slurm's numbers after they began anew."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    old, new = run(tmp_path, "k8s://c/n/job"), run(tmp_path, "k8s://c/n/submitting:b")
    records.save([old])
    records.save([new])
    named = Run("k8s://c/n/job", "job", run_dir=new.run_dir, log="", output_dir=new.output_dir)
    records.replace_row(new.handle, named)
    assert records.load() == [named]


def test_a_local_run_of_another_machine_is_said_to_be_there(tmp_path: Path) -> None:
    folder = tmp_path / "runs/a"
    folder.mkdir(parents=True)
    known = processes.identity() | {"host": "login2"}
    (folder / "process.json").write_text(json.dumps(known))
    there = Run("local://a", "job", run_dir=str(folder), log="", status=Status("RUNNING"))
    backend = registry.of("local")
    assert backend.statuses([there])["local://a"] == Status(
        "RUNNING", reason="on login2, whose processes cannot be seen from here"
    )
    with pytest.raises(UsageError, match=r"runs on login2(.|\n)*remedy: on login2, the same command"):
        backend.cancel(there)
    (folder / "exit_code").write_text("0\n")
    assert backend.statuses([there])["local://a"] == Status("COMPLETED", 0)


def test_export_and_eval_take_no_other_runs_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was cancelled in the queue, after an earlier one had ended in the same folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    out = tmp_path / "out"
    out.mkdir()
    first = Run("slurm://c/1", "a", run_dir=str(tmp_path / "runs/a-1"), log="", output_dir=str(out))
    second = Run("slurm://c/2", "b", run_dir=str(tmp_path / "runs/b-2"), log="", output_dir=str(out))
    records.save([first, second])
    (out / "provenance.json").write_text(json.dumps({"run_id": first.run_dir}))
    assert trained.find(first.handle).folder == out
    with pytest.raises(UsageError, match=r"trained by another run, a-1\n +remedy"):
        trained.find(second.handle)
    (out / "provenance.json").write_text(json.dumps({"run_id": "2"}))  # as a pod knows itself
    assert trained.find(second.handle).folder == out


def submitting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **known: object) -> Run:
    """A submission that has just begun, by a process that is not to be seen from here."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "runs/job-1"
    folder.mkdir(parents=True)
    (folder / states.SUBMITTER).write_text(json.dumps(processes.identity() | known))
    handle = records.handle_before("slurm://", folder.name)
    monkeypatch.setattr(SlurmBackend, "adopt", lambda *_: None)
    return Run(
        handle, "job", str(folder), "", str(tmp_path), submitted_at=provenance.now(), status=Status("SUBMITTING")
    )


def test_a_submission_on_another_machine_keeps_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two login nodes, one home: nobody here sees whether the process over there lives."""
    there = submitting(tmp_path, monkeypatch, host="login2")
    (now,) = states.refresh([there])
    assert (now.status.state, now.status.reason) == (
        "SUBMITTING",
        "by a process on login2, which is not seen from here",
    )
    with pytest.raises(UsageError, match=r"login2, which is not seen from here\)\n +nothing was cancelled"):
        states.cancel(now)
    (old,) = states.refresh([replace(there, submitted_at="2026-01-01T00:00:00+00:00")])
    assert old.status.state == "UNKNOWN", "no submission takes a quarter of an hour"
    with pytest.raises(UsageError, match="the scheduler knows no such job"):
        states.cancel(old)


def test_a_local_run_that_was_cut_off_before_it_began_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives its output folder back: nobody could cancel it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "runs/job-1"
    folder.mkdir(parents=True)
    cut = Run(
        records.handle_before("local://", "job-1"), "job", str(folder), "", str(tmp_path), status=Status("SUBMITTING")
    )
    records.save([cut])
    (now,) = states.refresh([cut])
    assert (now.handle, now.log, now.status.is_final) == ("local://job-1", f"{folder}/job.log", True)


def test_another_persons_run_does_not_get_into_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be `last` from then on."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    theirs = run(tmp_path)
    Path(theirs.run_dir).mkdir()
    (Path(theirs.run_dir) / "exit_code").write_text("0\n")
    assert states.refresh([theirs])[0].status.state == "COMPLETED"
    assert records.load() == []


def test_a_full_disk_leaves_no_claim_of_nobody(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        claim.take(run(tmp_path), None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    claim.take(run(tmp_path), None)


def test_who_submitted_is_told_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(LocalBackend, "statuses", lambda *_: {"local://a": Status("RUNNING")})
    (tmp_path / "job.yaml").write_text(MINIMAL)
    found = pipeline.load(tmp_path / "job.yaml")
    (loaded,) = found.jobs.values()
    claim.take(replace(run(tmp_path), output_dir=loaded.output_path("bash")), None)
    with pytest.raises(
        UsageError, match=rf"output_dir: {tmp_path}/output/tiny: job .*, submitted by \S+ on \S+, writes"
    ):
        steps.check(found, steps.render(found, registry.of("local")), registry.of("local"), lambda _: None)
