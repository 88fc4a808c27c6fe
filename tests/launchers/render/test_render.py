"""What a job renders to, file by file, and that nothing but the job decides it."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.files import write_atomic
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.render import render
from alignlaunch.launchers.render.render import LOCK

HERE = Path(__file__).parents[2] / "goldens"
JOBS = HERE / "jobs"
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


class Case(NamedTuple):
    job: str
    cluster: str | None = None
    overrides: tuple[str, ...] = ()


CASES = {
    "qwen3-orpo": Case("qwen3-orpo.yaml"),
    "deepspeed": Case("deepspeed.yaml"),
    "direct": Case("direct.yaml"),
    "single": Case("single.yaml"),
    "custom-zero": Case("custom-zero.yaml"),
    "pyxis": Case("qwen3-orpo.yaml", "pyxis"),
    "apptainer": Case("deepspeed.yaml", "apptainer"),
    "cpu": Case("direct.yaml", "cpu", ("nnodes=3", "nproc_per_node=2", "name=sft-direct-three")),
    "k8s": Case("qwen3-orpo.yaml", "k8s"),
    "k8s-cpu": Case("direct.yaml", "k8s-cpu", ("nnodes=1", "nproc_per_node=1", "name=sft-direct-one")),
    "k8s-elastic": Case("elastic.yaml"),
    "k8s-trainjob": Case("custom-zero.yaml", "trainjob", ("nnodes=2", "name=sft-trainjob")),
}
every_case = pytest.mark.parametrize("case", CASES)


def rendered(case: str, jobs: Path = JOBS) -> dict[str, str]:
    """{"target/file": text} of a case, as if rendered into goldens/<case>/<target>/."""
    file, cluster, overrides = CASES[case]
    job_ = jobfile.load(jobs / file, overrides, cluster)
    return {
        f"{target}/{name}": text
        for target in render.targets(job_)
        for name, text in render.render(job_, target, os.path.relpath(jobs / file, jobs.parent / case / target)).items()
    }


@every_case
def test_goldens(case: str, pytestconfig: pytest.Config) -> None:
    """Whole folders with `==`: a file too many, and one too few, fail too. Written only by `--update-goldens`."""
    files = rendered(case)
    folder = HERE / case
    if pytestconfig.getoption("--update-goldens"):
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / name, text)
    on_disk = {
        str(path.relative_to(folder)): path.read_bytes().decode() for path in folder.rglob("*") if path.is_file()
    }
    assert files == on_disk, "if the change is meant: pytest --update-goldens, and read the diff in git"


def test_no_golden_is_orphaned() -> None:
    assert {path.name for path in HERE.iterdir()} == {*CASES, "jobs"}


def test_check_agrees_with_the_goldens() -> None:
    """The goldens are artifact folders like any other: the product's own audit must find them clean."""
    folders = list(drift.locked_folders(HERE))
    assert folders == sorted({HERE / case / name.partition("/")[0] for case in CASES for name in rendered(case)})
    assert [drift.check(folder) for folder in folders] == [""] * len(folders)


@every_case
def test_the_same_bytes_from_any_place_and_locale(case: str, tmp_path: Path) -> None:
    """Two folders, another working directory, umask, locale, home, hash seed and clock zone."""
    file, cluster, overrides = CASES[case]
    results = []
    for name, umask, env in (
        ("a", 0o022, {"LC_ALL": "C", "PYTHONHASHSEED": "1", "TZ": "UTC"}),
        ("b c/deep", 0o077, {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "HOME": "/nonexistent"}),
    ):
        place = tmp_path / name
        shutil.copytree(JOBS, place)
        options = [*(f"--set={item}" for item in overrides), *([f"--cluster={cluster}"] if cluster else [])]
        done = subprocess.run(
            [sys.executable, "-m", "alignlaunch.launchers.cli", "render", place / file, *options],
            cwd=tmp_path if name == "a" else "/",
            env={"PATH": os.environ["PATH"], **env},
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        launch = place / "launch"
        results.append({str(p.relative_to(launch)): p.read_bytes() for p in launch.rglob("*") if p.is_file()})
    assert results[0] == results[1]
    assert len(results[0]) == len(rendered(case))


@every_case
def test_no_place_time_or_user_of_the_machine(case: str, tmp_path: Path) -> None:
    shutil.copytree(JOBS, tmp_path / "jobs")
    for name, text in rendered(case, tmp_path / "jobs").items():
        for word in (str(tmp_path), str(Path.home()), os.uname().nodename, sys.prefix, "20[0-9][0-9]-[0-9]"):
            assert not re.search(word if "[" in word else re.escape(word), text), (name, word)


@pytest.mark.parametrize("case", sorted({*CASES} - {"k8s-elastic"}))
def test_every_script_is_shell_without_a_complaint(case: str) -> None:
    assert SHELLCHECK is not None
    scripts = [path for path in (HERE / case).rglob("*") if path.suffix in (".sh", ".sbatch")]
    assert len(scripts) == 4
    for script in scripts:
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0, script
        # The text that srun gives to each node's own bash is a script too.
        for inner in re.findall(r"^    bash -c '\n(.*?)^' &$", script.read_text(), re.DOTALL | re.MULTILINE):
            assert subprocess.run(["bash", "-n", "-c", inner], check=False).returncode == 0, script
    done = subprocess.run([SHELLCHECK, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@every_case
def test_the_header_says_what_made_it_from_what_and_how_to_run_it(case: str) -> None:
    file, cluster, overrides = CASES[case]
    job_ = jobfile.load(JOBS / file, overrides, cluster)
    for name, text in rendered(case).items():
        if name.endswith((".sh", ".sbatch")):
            head = "\n".join(text.splitlines()[:6])
            assert head.startswith("#!/bin/bash")
            assert f"from {file} (what it says: sha256 {job_.digest})" in head
            assert "Do not edit" in head
            if name != "slurm/after.sh":  # which is a part of job.sbatch
                assert f"launch/{job_.spec.name}/{name}" in head
                assert "set -euo pipefail\n" in text


def test_the_sbatch_lines_of_the_example() -> None:
    lines = [line for line in rendered("qwen3-orpo")["slurm/job.sbatch"].splitlines() if line.startswith("#SBATCH")]
    for option in (
        "--job-name=qwen3-orpo --nodes=2 --ntasks-per-node=1 --gres=gpu:4 --time=12:00:00 --partition=gpu --account=lab"
        " --qos=high --constraint=h100 --output=%x-%j.out --open-mode=append --requeue --signal=B:USR2@300"
    ).split():
        assert lines.count(f"#SBATCH {option}") == 1, option
    assert "#SBATCH --gres" not in rendered("cpu")["slurm/job.sbatch"]
    assert "#SBATCH --gres=gpu:h100:4\n" in rendered("pyxis")["slurm/job.sbatch"]
    assert "#SBATCH --ntasks-per-node=2\n" in rendered("cpu")["slurm/job.sbatch"]


def test_secrets_are_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_value_of_a_secret")
    files = rendered("qwen3-orpo")
    assert "HF_TOKEN" in files["slurm/job.sbatch"]
    assert not [name for name, text in files.items() if "hf_value_of_a_secret" in text]


def test_bash_carries_every_zero_stage_and_slurm_the_jobs_own() -> None:
    files = {name for name in rendered("deepspeed") if name.endswith(".json")}
    assert files == {
        "bash/zero1_offload.json",
        "bash/zero2_offload.json",
        "bash/zero3_offload_all.json",
        "slurm/zero3_offload_all.json",
    }


@pytest.mark.parametrize(
    ("launcher", "container", "modules"),
    list(itertools.product(["torchrun", "deepspeed", "direct"], ["pyxis", "apptainer", None], [True, False])),
)
def test_every_combination_is_clean_shell(tmp_path: Path, launcher: str, container: str | None, modules: bool) -> None:
    assert SHELLCHECK is not None
    shutil.copytree(JOBS, tmp_path / "jobs")
    profile = tmp_path / "jobs" / "clusters" / "odd.yaml"
    profile.write_text(
        (f"container: {{runtime: {container}, image: 'it''s an image', mounts: ['/a b:/c']}}\n" if container else "")
        + ('modules: ["a b", "$(c)"]\n' if modules else 'python: "/opt/my python"\n')
    )
    job_ = jobfile.load(tmp_path / "jobs" / "custom-zero.yaml", (f"launcher={launcher}",), "odd")
    script = render.render(job_, "slurm", "job.yaml")[render.SBATCH]
    # SC2016: "expressions don't expand in single quotes", which is what a value that looks like one needs.
    command = [SHELLCHECK, "--exclude=SC2016", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "direct"])
def test_what_each_task_runs_is_clean_shell(launcher: str) -> None:
    """shellcheck takes the quoted body of `bash -c '...'` for a string: so it is checked by itself."""
    assert SHELLCHECK is not None
    job_ = jobfile.load(JOBS / "qwen3-orpo.yaml", (f"launcher={launcher}",), None)
    script = render.render(job_, "slurm", "job.yaml")[render.SBATCH]
    body = script.partition("bash -c '\n")[2].partition("\n' &\n")[0]
    assert "alignlaunch.train" in body
    assert "'" not in body
    done = subprocess.run([SHELLCHECK, "--shell=bash", "-"], input=body, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_lock_holds_the_digests_of_every_other_file() -> None:
    import json

    for case in CASES:
        files = rendered(case)
        for target in {name.partition("/")[0] for name in files}:
            lock = json.loads(files[f"{target}/{LOCK}"])
            mine = {name.partition("/")[2]: text for name, text in files.items() if name.startswith(f"{target}/")}
            assert lock["files"] == {name: render.digest(text) for name, text in mine.items() if name != LOCK}
