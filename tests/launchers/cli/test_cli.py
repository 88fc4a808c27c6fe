"""The command line: help, exit codes, and never a traceback."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers import cli
from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.errors import LaunchError, SchedulerError, UsageError
from tests.conftest import MINIMAL, Cli
from tests.launchers.job.test_yamlfile import BAD

PAGE = (Path(__file__).parents[3] / "docs" / "commands.md").read_text(encoding="utf-8")
COMMANDS = sorted(cli.main.commands)
JOB_COMMANDS = ("render", "slurm", "local")


def parameters() -> Iterator[tuple[str, click.Option]]:
    for name, command in cli.main.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, parameter


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_is_in_the_docs(name: str) -> None:
    command = cli.main.commands[name]
    assert command.help
    assert command.help.endswith(".") or ";" in command.help
    assert re.search(rf"\*\*`alignlaunch {name}[ `]", PAGE), f"docs/commands.md does not explain {name}"
    shown = CliRunner().invoke(cli.main, [name, "--help"])
    assert shown.exit_code == 0
    assert shown.output.startswith("Usage: ")


def test_the_list_of_commands_is_whole() -> None:
    """Each command has a first sentence that fits on its line."""
    shown = CliRunner().invoke(cli.main, ["--help"], terminal_width=80).output
    assert "..." not in shown.partition("Commands:")[2]


@pytest.mark.parametrize(("name", "option"), list(parameters()), ids=lambda value: getattr(value, "name", value))
def test_every_option_has_help_and_is_in_the_docs(name: str, option: click.Option) -> None:
    assert option.help
    missing = [flag for flag in option.opts if not re.search(rf"`{flag}[` ]", PAGE)]
    assert not missing, f"docs/commands.md does not name {missing} of {name}"


@pytest.mark.parametrize("command", JOB_COMMANDS)
@pytest.mark.parametrize("case", ["empty", "tabs", "an anchor bomb", "a megabyte of [", "NaN", "a python object"])
def test_a_bad_job_file_exits_2(cli: Cli, job_file: Path, command: str, case: str) -> None:
    job_file.write_text(BAD[case][0])
    done = cli(command, job_file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"alignlaunch: error: {job_file}")
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in job_file.parent.iterdir()) == ["job.yaml"]  # nothing is left behind


@pytest.mark.parametrize("command", JOB_COMMANDS)
@pytest.mark.parametrize("path", ["NO_SUCH", ".", "x" * 5000, "job.yaml/x"])
def test_a_job_file_that_cannot_be_read_exits_2(job_file: Path, command: str, path: str) -> None:
    done = CliRunner().invoke(cli.main, [command, str(job_file.parent / path)])
    assert done.exit_code == 2
    assert "cannot be read" in done.stderr


@given(st.binary(max_size=100))
def test_arbitrary_bytes_exit_2(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    done = CliRunner().invoke(cli.main, ["render", str(path)])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LaunchError("x"), 1),
        (UsageError("x"), 2),
        (SchedulerError("x"), 3),
        (PermissionError(13, "Permission denied", "x"), 2),
    ],
)
def test_errors_have_their_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(drift, "locked_folders", fail)
    done = CliRunner().invoke(cli.main, ["check"])
    assert done.exit_code == code
    assert done.stdout == ""
    assert done.stderr.startswith("alignlaunch: error: ")
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["render"], ["render", "job.yaml", "--target", "moon"], ["init", "ppo"], ["completion", "csh"],
     ["status", "no-such-job"], ["status", "moon://1"], ["status"], ["logs", "--rank", "-1"], ["list", "-n", "0"],
     ["render", "job.yaml", "--set", "nnodes"], ["render", "job.yaml", "--cluster", "nowhere"],
     ["nodes", "--forget", "n1"], ["nodes", "--add", "--all"], ["nodes", "--add", "n1,n2"]],
    ids=" ".join,
)  # fmt: skip
def test_usage_errors_exit_2(job_file: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(job_file.parent)
    monkeypatch.setenv("XDG_STATE_HOME", str(job_file.parent / "state"))
    done = CliRunner().invoke(cli.main, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert isinstance(done.exception, SystemExit)  # and not the error itself, which would be a traceback


def test_render_prints_the_folders_alone_on_stdout(cli: Cli, job_file: Path) -> None:
    done = cli("render", "job.yaml", "--set", "nnodes=2", "--set", "nproc_per_node=3", "--as", "six")
    assert done.returncode == 0
    assert done.stdout == "launch/six/bash\nlaunch/six/slurm\n"
    assert "processes: 2 nodes x 3 = 6\n" in done.stderr
    assert "effective batch size: 1 per device x 6 processes x 8 accumulation = 48\n" in done.stderr


def test_the_cluster_can_come_from_the_environment(cli: Cli, job_file: Path) -> None:
    done = cli("render", "job.yaml", ALIGNLAUNCH_CLUSTER="nowhere")
    assert (done.returncode, "--cluster nowhere" in done.stderr) == (2, True)


def test_a_dry_run_prints_the_script_and_writes_nothing(cli: Cli, job_file: Path) -> None:
    done = cli("local", job_file, "--dry-run")
    assert done.returncode == 0
    assert [path.name for path in job_file.parent.iterdir()] == ["job.yaml"]
    assert cli("render", job_file).returncode == 0
    assert done.stdout == (job_file.parent / "launch/tiny/bash/torchrun.sh").read_text()


def test_local_refuses_drift_and_starts_nothing(cli: Cli, job_file: Path) -> None:
    assert cli("render", job_file).returncode == 0
    job_file.write_text(MINIMAL + "nnodes: 2\n")
    done = cli("local", job_file)
    assert (done.returncode, done.stdout) == (1, "")
    assert "+nnodes: 2\n" in done.stderr
    assert "accept it with --write" in done.stderr
    assert not (job_file.parent / "runs").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(cli: Cli, shell: str) -> None:
    done = cli("completion", shell)
    assert done.returncode == 0
    assert "_ALIGNLAUNCH_COMPLETE" in done.stdout
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
    # What that script calls: the installed command, which finds its variable by its own name.
    asked = {
        "_ALIGNLAUNCH_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "alignlaunch sl",
        "COMP_CWORD": "sl" if shell == "fish" else "1",
    }
    command = [Path(sys.executable).parent / "alignlaunch"]
    answer = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert (answer.returncode, "slurm" in answer.stdout) == (0, True)


@pytest.mark.parametrize("arguments", ["schema", "init orpo", "--help"])
def test_a_closed_pipe_is_no_traceback(arguments: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m alignlaunch.launchers.cli {arguments}"
    done = subprocess.run(
        ["bash", "-c", f"({command}; sleep 0) | head -c 1 > /dev/null"], capture_output=True, text=True, check=False
    )
    # A Slurm that is installed here without a configuration says so.
    said = [line for line in done.stderr.splitlines() if not line.startswith("alignlaunch: note: sinfo: ")]
    assert (done.returncode, said) == (0, [])


def test_nothing_is_recorded_is_no_error_in_a_list(cli: Cli) -> None:
    done = cli("list")
    assert (done.returncode, done.stdout) == (0, "no runs are recorded\n")
    assert cli("list", "--json").stdout == "[]\n"


def test_version(cli: Cli) -> None:
    assert re.fullmatch(r"alignlaunch, version \d+\.\d+\.\d+\S*\n", cli("--version").stdout)


def test_a_dry_run_looks_at_what_a_submission_looks_at(tmp_path: Path, cli: Cli) -> None:
    """Bad data and drift: the same words, the same exit code, and nothing written."""
    for command in ("local", "slurm"):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "bad.jsonl").write_text('{"nonsense": 1}\n')
        (tmp_path / "job.yaml").write_text(MINIMAL.replace("[data]", "[bad.jsonl]"))
        done = cli(command, "job.yaml", "--dry-run")
        assert done.returncode == 2
        assert "bad.jsonl" in done.stderr
        assert done.stdout.startswith("#!/bin/bash")
        assert not (tmp_path / "launch").exists()
    (tmp_path / "job.yaml").write_text(MINIMAL.replace("[data]", "[hub/data]"))
    assert cli("render", "job.yaml", "--target", "bash").returncode == 0
    (tmp_path / "job.yaml").write_text(MINIMAL.replace("[data]", "[hub/data]") + "nproc_per_node: 2\n")
    done = cli("local", "job.yaml", "--dry-run")
    assert done.returncode == 1
    assert "is not what the job file renders to" in done.stderr
