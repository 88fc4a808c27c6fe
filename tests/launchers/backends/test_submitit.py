"""The submission through submitit's private methods: sbatch must get the rendered bytes, and nothing else may happen.

A stub stands in for Slurm's commands, so that what it was given can be read back. tests/slurm/ has the real one.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
from submitit.slurm.slurm import SlurmExecutor

from tests.support.stub_slurm import JOB, StubSlurm

ROOT = Path(__file__).parents[3]
ALIGNLAUNCH = [sys.executable, "-m", "alignlaunch.launchers.cli"]
SECRET = "hf_this-value-stands-nowhere"


@dataclass
class User:
    """Someone on the login node, in a folder with one job file."""

    folder: Path
    slurm: StubSlurm
    env: dict[str, str]

    def submit(self, *options: str, **env: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*ALIGNLAUNCH, "slurm", "job.yaml", *options],
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            check=False,
        )

    @property
    def rendered(self) -> bytes:
        return (self.folder / "launch" / "gruesse" / "slurm" / "job.sbatch").read_bytes()

    @property
    def run_folders(self) -> list[Path]:
        return [path for path in self.folder.glob("runs/*") if path.is_dir()]

    @property
    def recorded(self) -> list[str]:
        """Handles in the record of runs."""
        path = self.folder / "state" / "alignlaunch" / "runs.sqlite"
        if not path.exists():
            return []
        connection = sqlite3.connect(path)
        try:
            return [row[0] for row in connection.execute("SELECT handle FROM runs")]
        finally:
            connection.close()


@pytest.fixture
def user(tmp_path: Path) -> User:
    slurm = StubSlurm.create(tmp_path / "bin")
    folder = tmp_path / "Projekt"
    folder.mkdir()
    (folder / "job.yaml").write_text(JOB, encoding="utf-8")
    env = {
        "PATH": str(slurm.bin),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HF_TOKEN": SECRET,
    }
    return User(folder, slurm, env)


@pytest.fixture(scope="session")
def latin1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A locale that encodes ü to another byte than UTF-8, and has no 你 at all."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("no localedef here to make a latin-1 locale")
    done = subprocess.run(
        ["localedef", "-c", "-i", "POSIX", "-f", "ISO-8859-1", folder / "xx_XX.ISO-8859-1"],
        capture_output=True,
        text=True,
        check=False,
    )
    env = {"LOCPATH": str(folder), "LC_ALL": "xx_XX.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    program = "import locale; print(locale.getpreferredencoding())"
    encoding = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    if encoding.stdout.strip() != "ISO-8859-1":
        pytest.skip(f"localedef cannot make a latin-1 locale here: {done.stderr.strip()}")
    return env


def refused(done: subprocess.CompletedProcess[bytes], user: User) -> str:
    """stderr of a submission that failed cleanly: exit 3, no traceback, no trace of a run."""
    words = done.stderr.decode()
    assert done.returncode == 3, words
    assert "Traceback" not in words
    assert done.stdout == b""
    assert user.run_folders == []
    assert user.recorded == []
    return words


def test_the_pinned_version_is_installed_and_has_the_methods() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"submitit=={version('submitit')}" in project["dependencies"]
    overridden = {
        "_make_submission_file_text": ["self", "command", "uid"],
        "_make_submission_command": ["self", "submission_file_path"],
        "_submit_command": ["self", "command"],
    }
    for name, parameters in overridden.items():
        assert list(inspect.signature(getattr(SlurmExecutor, name)).parameters) == parameters


def test_sbatch_gets_exactly_the_rendered_bytes(user: User) -> None:
    done = user.submit()
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"slurm://stub/42\n"
    assert user.recorded == ["slurm://stub/42"]
    assert "你好, Grüße, €".encode() in user.slurm.script
    assert user.slurm.script == user.rendered
    (folder,) = user.run_folders
    lock = json.loads((folder / "alignlaunch.lock").read_text(encoding="utf-8"))
    assert sha256(user.slurm.script).hexdigest() == lock["files"]["job.sbatch"]
    # One script and nothing of submitit's: no --wrap, no option that would win over an #SBATCH line but the run's own.
    *options, script = user.slurm.arguments
    assert options == [f"--chdir={user.folder}", "--job-name=gruesse", f"--output={folder}/gruesse-%j.out"]
    assert script == str(folder / "job.sbatch")


def test_job_and_cluster_are_found_among_other_words_and_these_are_told(user: User) -> None:
    user.slurm.answer("lua: job 5 is no example\nSubmitted batch job 4711 on cluster main\n")
    (user.slurm.bin / "warning").write_text("sbatch: lua: 2 nodes will be charged to lab\n")
    done = user.submit()
    assert done.stdout == b"slurm://main/4711\n"
    assert b"lua: job 5 is no example\n" in done.stderr
    assert b"sbatch: lua: 2 nodes will be charged to lab\n" in done.stderr
    assert b"Submitted batch job" not in done.stderr


def test_an_answer_without_a_job_keeps_the_run_folder(user: User) -> None:
    user.slurm.answer("taken\n")
    done = user.submit()
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"its answer names no job: 'taken'" in done.stderr
    assert len(user.run_folders) == 1


def test_variables_that_would_reshape_the_job_reach_no_sbatch(user: User) -> None:
    harmful = dict.fromkeys(
        ("SBATCH_ARRAY_INX", "SBATCH_WAIT", "SBATCH_ERROR", "SBATCH_JOB_NAME", "SBATCH_EXPORT"), "1"
    )
    done = user.submit(**harmful, SBATCH_QOS="high")
    assert set(user.slurm.variables) & {*harmful, "SBATCH_QOS"} == {"SBATCH_QOS"}
    assert b"SBATCH_QOS in your environment wins over the script" in done.stderr
    assert b"SBATCH_WAIT" not in done.stderr


def test_in_a_locale_without_any_of_the_characters(user: User) -> None:
    done = user.submit(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr.decode()
    assert user.slurm.script == user.rendered
    assert "你好, Grüße, €".encode() in user.slurm.script


def test_in_a_latin1_locale(user: User, latin1: dict[str, str]) -> None:
    # Grüße alone can be encoded, to other bytes: the quiet fault. With 你好 the encoding itself would fail.
    for greeting in ("Grüße", "你好"):
        job = JOB.replace("你好, Grüße, €", greeting)
        (user.folder / "job.yaml").write_text(job, encoding="utf-8")
        done = user.submit("--write", **latin1)
        assert done.returncode == 0, done.stderr.decode("latin-1")
        assert user.slurm.script == user.rendered
        assert greeting.encode() in user.slurm.script


def test_the_run_folder_holds_the_artifacts_and_no_pickle(user: User) -> None:
    user.submit()
    (folder,) = user.run_folders
    artifacts = {path.name for path in (user.folder / "launch" / "gruesse" / "slurm").iterdir()}
    assert {path.name for path in folder.iterdir()} == {*artifacts, "run.json"}
    assert (folder / "job.sbatch").read_bytes() == user.rendered


def test_signs_of_submitit_in_a_path_are_none(user: User) -> None:
    folder = user.folder / "50%t and %j"
    folder.mkdir()
    (folder / "job.yaml").write_text(JOB, encoding="utf-8")
    moved = User(folder, user.slurm, user.env)
    assert moved.submit().returncode == 0
    assert Path(moved.slurm.arguments[-1]).parent == moved.run_folders[0]


def test_a_secret_is_passed_by_name_and_its_value_stands_nowhere(user: User) -> None:
    done = user.submit()
    assert user.slurm.token == SECRET  # sbatch can pass it on ...
    export = next(line for line in user.slurm.script.decode().splitlines() if line.startswith("#SBATCH --export="))
    assert "HF_TOKEN" in export.partition("=")[2].split(",")  # ... and is told to
    assert SECRET not in "\n".join(user.slurm.arguments)
    assert SECRET.encode() not in done.stdout + done.stderr
    written = [path for path in user.folder.rglob("*") if path.is_file()]
    assert any(path.name == "run.json" for path in written)
    assert any(path.name == "runs.sqlite" for path in written)
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_a_refusal_is_told_once_in_sbatchs_words_with_the_line_at_fault(user: User) -> None:
    said = (
        "sbatch: error: invalid partition specified: gpu\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified"
    )
    user.slurm.refuse(f"{said}\n")
    words = refused(user.submit(), user)
    assert words.count(said) == 1
    assert words.count("Invalid partition name specified") == 1
    lines = user.rendered.decode().splitlines()
    assert f"job.sbatch:{lines.index('#SBATCH --partition=gpu') + 1}: #SBATCH --partition=gpu\n" in words
    assert "#SBATCH --account" not in words


def test_an_option_that_sbatch_does_not_know_is_found(user: User) -> None:
    text = JOB.replace("account: lab", 'extra: ["--frobnicate=1"]')
    (user.folder / "job.yaml").write_text(text, encoding="utf-8")
    user.slurm.refuse("sbatch: unrecognized option '--frobnicate=1'\nTry \"sbatch --help\" for more information\n")
    words = refused(user.submit(), user)
    assert ": #SBATCH --frobnicate=1\n" in words


@pytest.mark.parametrize("name", ["sbatch", "scontrol", "srun"])
def test_a_missing_command_is_named(user: User, name: str) -> None:
    user.slurm.remove(name)
    words = refused(user.submit(), user)
    assert f"{name}: command not found" in words
    assert "remedy: run this on a login node" in words
    assert not user.slurm.was_asked


def test_a_controller_that_is_down_is_reported_before_anything_is_submitted(user: User) -> None:
    user.slurm.stop()
    words = refused(user.submit(), user)
    assert words.count("Unable to contact slurm controller") == 1
    assert not user.slurm.was_asked


def test_a_submission_that_failed_can_be_tried_again(user: User) -> None:
    user.slurm.refuse("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n")
    refused(user.submit(), user)
    (user.slurm.bin / "refusal").unlink()
    assert user.submit().returncode == 0
    assert len(user.run_folders) == len(user.recorded) == 1
