"""To add a place to run takes one class and one line in the registry: then every command works on its runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from alignlaunch.launchers import cli
from alignlaunch.launchers.audit import provenance
from alignlaunch.launchers.backends import registry
from alignlaunch.launchers.backends.base import Backend, Rendered, Say
from alignlaunch.launchers.backends.logfile import LogFile
from alignlaunch.launchers.backends.registry import PLACES, Option, Place
from alignlaunch.launchers.cli import submit
from alignlaunch.launchers.errors import SchedulerError, UsageError
from alignlaunch.launchers.job.job import Job
from alignlaunch.launchers.render.render import Target
from alignlaunch.launchers.runs import runfolder
from alignlaunch.launchers.runs.records import Run, Status
from tests.conftest import MINIMAL


class DetachedBackend(LogFile):
    """Runs a program in the background of this machine. All it knows of a run afterwards is in the run's folder."""

    scheme = "detached"
    target: Target = "bash"
    orders_jobs = False

    def __init__(self, *, program: str | None = None) -> None:
        self._program = program or "echo step 1; echo step 2"

    def check(self, rendered: Rendered, say: Say) -> None:
        say(f"warning: {rendered.job.spec.name} will be alone")
        if "forbidden" in self._program:
            raise UsageError("forbidden\n    remedy: do something else")

    def script(self, rendered: Rendered) -> str:
        return rendered.files["torchrun.sh"]

    def dry_run(self, rendered: Rendered) -> str:
        return f"{rendered.folder.name} would be taken"

    def handle_prefix(self, job: Job) -> str:
        return f"{self.scheme}://"

    def submit(self, rendered: Rendered, run: Run, after: Sequence[Run], say: Say) -> Run:
        if "refused" in self._program:
            raise SchedulerError("refused")
        folder, log = Path(run.run_dir), Path(run.run_dir, "out.log")
        command = ["bash", "-c", f"({self._program}); echo $? > {folder}/exit_code"]
        runfolder.write_provenance(folder, provenance.describe(rendered.job, "bash", rendered.files, command))
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        return replace(run, handle=f"{self.scheme}://{process.pid}", log=str(log))

    def options_of(self, run: Run) -> dict[str, str]:
        return {}

    def shell(self, run: Run, node: int, command: Sequence[str], *, terminal: bool) -> list[str]:
        return ["env", f"NODE={node}", *command]

    def recover(self, handle: str) -> Run:
        raise UsageError(f"{handle}: not in the record")

    def adopt(self, run: Run) -> Run | None:
        return None

    def statuses(self, runs: list[Run]) -> dict[str, Status]:
        return {run.handle: self._status(run) for run in runs}

    def _status(self, run: Run) -> Status:
        with suppress(ChildProcessError):
            os.waitpid(int(run.id), os.WNOHANG)
        code = runfolder.exit_code(Path(run.run_dir))
        if code is not None:
            return Status("COMPLETED" if code == 0 else "FAILED", code)
        return Status("CANCELLED" if Path(run.run_dir, "cancelled").exists() else "RUNNING")

    def require_here(self, run: Run) -> None: ...

    def cancel(self, run: Run) -> None:
        Path(run.run_dir, "cancelled").touch()
        with suppress(ProcessLookupError):
            os.killpg(int(run.id), signal.SIGKILL)


class Caller:
    """Runs alignlaunch commands in this process, with the additional place registered."""

    def __call__(self, *arguments: str, code: int = 0, input: str | None = None) -> Result:
        done = CliRunner().invoke(cli.main, arguments, input=input)
        assert done.exit_code == code, (arguments, done.output, done.exception)
        return done


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    place = Place(
        "detached:DetachedBackend", "Run JOB in the background.", (Option("program", "TEXT", "What to run."),)
    )
    monkeypatch.setitem(sys.modules, f"{registry.__package__}.detached", sys.modules[__name__])
    monkeypatch.setitem(PLACES, "detached", place)
    monkeypatch.setitem(cli.main.commands, "detached", submit.command_of("detached"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(MINIMAL.replace("[data]", "[hub/data]"))
    (tmp_path / "model").mkdir()
    yield Caller()
    registry.of.cache_clear()


def test_a_dry_run_prints_the_script_and_asks(call: Caller) -> None:
    done = call("detached", "job.yaml", "--dry-run")
    assert done.stdout.startswith("#!/bin/bash")
    assert "tiny will be alone" in done.stderr
    assert "bash would be taken" in done.stderr
    assert not Path("launch").exists()


def test_every_command_on_a_run(call: Caller) -> None:
    (submitted,) = json.loads(call("detached", "job.yaml", "--json").stdout)
    handle = submitted["handle"]
    assert handle.startswith("detached://")
    assert json.loads(Path(submitted["run_dir"], "run.json").read_text())["target"] == "bash"
    call("wait", handle)
    assert json.loads(call("status", "last", "--json").stdout)[0]["state"] == "COMPLETED"
    assert handle in call("list").stdout
    assert call("logs", "tiny").stdout == "step 1\nstep 2\n"
    assert call("logs", "tiny", "--follow", "--tail", "1").stdout == "step 2\n"
    assert "COMPLETED" in call("cancel", handle).stdout
    assert "ended well" in call("diagnose", handle).stdout
    told = call("describe", handle).stdout
    digest = json.loads(Path(submitted["run_dir"], "run.json").read_text())["artifacts"]["torchrun.sh"]
    for words in (
        handle,
        "1 nodes x 1 processes (torchrun)",
        str(Path("job.yaml").resolve()),
        f"torchrun.sh sha256 {digest}",
    ):
        assert words in told
    assert json.loads(call("describe", handle, "--json").stdout)[0]["artifacts"]["torchrun.sh"] == digest


def test_a_failure_and_its_code(call: Caller) -> None:
    done = call("detached", "job.yaml", "--follow", "--program", "echo RuntimeError: x >&2; exit 3", code=3)
    assert "RuntimeError: x" in done.stdout
    assert "FAILED exit code 3" in done.stderr
    assert "the run is FAILED" in call("diagnose").stdout


def test_a_run_is_cancelled_and_its_folder_is_free_again(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = call("detached", "job.yaml", "--program", "sleep 600").stdout.strip()
    end = time.monotonic() + 60
    while json.loads(call("status", handle, "--json").stdout)[0]["state"] != "RUNNING":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "writes there" in call("detached", "job.yaml", code=2).stderr
    unnamed = call("cancel", code=2).stderr
    assert f"no run is named\n    remedy: the last is {handle} (tiny); `alignlaunch cancel last` ends it" in unnamed
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    for answer, code in (("n", 1), ("y", 0)):
        assert json.loads(call("status", "--json").stdout)[0]["state"] == "RUNNING"
        assert f"Cancel {handle} (tiny)?" in call("cancel", code=code, input=f"{answer}\n").stderr
    assert json.loads(call("status", "--json").stdout)[0]["state"] == "CANCELLED"
    call("detached", "job.yaml", "--wait")


def test_a_run_is_submitted_again_as_it_was(call: Caller) -> None:
    assert "no run is recorded yet" in call("retry", code=2).stderr
    options = ("--set", "train.max_steps=7", "--program", "sleep 600")
    handle = call("detached", "job.yaml", *options).stdout.strip()
    assert f"remedy: wait for its end, or end it: alignlaunch cancel {handle}" in call("retry", code=2).stderr
    call("cancel", handle)
    again = call("retry", "--wait").stdout.strip()
    first, second = (json.loads(call("describe", one, "--json").stdout)[0] for one in (handle, again))
    assert (second["set"], second["job_sha256"]) == (["train.max_steps=7"], first["job_sha256"])
    assert handle != again
    Path("job.yaml").rename("elsewhere.yaml")
    assert f"its job file {Path('job.yaml').resolve()} is gone" in call("retry", code=2).stderr


@pytest.mark.parametrize(("program", "code"), [("forbidden", 2), ("refused", 3)])
def test_what_is_refused_leaves_nothing(call: Caller, program: str, code: int) -> None:
    assert program in call("detached", "job.yaml", "--program", program, code=code).stderr
    assert call("list").stdout == "no runs are recorded\n"
    assert list(Path("runs").glob("[!.]*")) == []


def test_no_pipeline_where_jobs_are_not_ordered(call: Caller) -> None:
    Path("pipeline.yaml").write_text(
        "name: p\njobs: {a: {job: job.yaml}, b: {job: job.yaml, name: b, output_dir: b, after: [a]}}\n"
    )
    assert "detached runs no job after another" in call("detached", "pipeline.yaml", code=2).stderr


@pytest.mark.parametrize("scheme", PLACES)
def test_each_place_offers_the_whole_protocol(scheme: str) -> None:
    backend = registry.of(scheme)
    assert backend.scheme == scheme
    missing = [name for name in Backend.__annotations__ if not hasattr(backend, name)]
    missing += [name for name in vars(Backend) if not name.startswith("_") and not hasattr(backend, name)]
    assert missing == []


def test_each_place_has_a_command_with_its_options() -> None:
    for scheme, place in PLACES.items():
        options = {param.name for param in cli.main.commands[scheme].params if isinstance(param, click.Option)}
        assert {option.name for option in place.options} <= options
