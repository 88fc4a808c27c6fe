"""Hostile values in environment and in paths reach the process unchanged; the scripts check what they are given.

The scripts are the real ones, run by the real bash. In the place of python stands a stub that tells what it was given.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.render.render import targets
from alignlaunch.train import config

HOSTILE = [
    "a b",
    " lead and trail ",
    "it's",
    '"double"',
    "'\"'\"'",
    "$HOME ${HOME} $(touch /tmp/evil) `id`",
    "!history !!",
    "line\nbreak\n",
    "\nEND\n",
    "END",
    "a\r\nb",
    "tab\there",
    "-leading --dash",
    "#comment",
    "a#b",
    "{{ jinja }} {% if x %} {# y #}",
    "back\\slash\\",
    "\\n",
    "*?[a]~",
    "a;b&c|d>e<f",
    "héllo 世界 🚀",
    "\u2028\x85\ufeff",
    "%s %d",
    "=",
    "- list",
    "key: value",
    "null",
    "1e3",
    "012",
    "x" * 5000,
]
STUB = """\
#!{python}
import json, os, sys, time
with open({out!r} + os.environ.get("SLURM_PROCID", ""), "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}, file)
code = int(os.environ.get("STUB_CODE_" + os.environ.get("SLURM_PROCID", ""), 0))
while code == 143 and not os.path.exists(os.environ["TASK_EXIT_CODES"]):
    time.sleep(0.01)  # srun ends a task after another has failed
sys.exit(code)
"""
# Starts one task a node as srun does, stops the others when one fails, and exits with the highest code.
SRUN = """\
#!/bin/bash
while [[ "$1" == --* ]]; do echo "$1" >> "$SRUN_OPTIONS"; shift; done
pids=()
for ((i = 0; i < SLURM_NNODES; i++)); do
    SLURM_NODEID=$i SLURM_PROCID=$i SLURM_LOCALID=0 SLURMD_NODENAME=node$i "$@" &
    pids+=($!)
done
highest=0
for pid in "${pids[@]}"; do
    code=0
    wait "$pid" || code=$?
    if [[ $code -gt $highest ]]; then highest=$code; fi
done
exit "${SRUN_CODE:-$highest}"
"""
SCONTROL = """\
#!/bin/bash
[[ "$*" == "show hostnames node[0-1]" ]] || exit 1
printf 'node0\\nnode1\\n'
"""


def as_yaml(data: dict[str, Any]) -> str:
    """JSON, with what YAML would read differently escaped: to YAML some of these are line breaks."""
    text = json.dumps(data, ensure_ascii=False)
    return re.sub("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)


class Place:
    """A job's folder with its rendered scripts and a stub for python."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        self.folder = folder
        base: dict[str, Any] = {"name": "hostile", "stage": "sft", "model": "m", "data": {"train": ["d"]}, "lora": None}
        (folder / "job.yaml").write_text(as_yaml(base | keys), encoding="utf-8")
        self.job = jobfile.load(folder / "job.yaml")
        for target in targets(self.job):
            where = drift.folder_of(self.job, target)
            drift.write(where, drift.artifacts(self.job, target, where))
        self.python = self._script("python stub", STUB.format(python=sys.executable, out=str(folder / "told")))
        self.bin = folder / "bin"

    def _script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def bash(self, *arguments: str, script: str = "torchrun", **env: str) -> subprocess.CompletedProcess[str]:
        return self._run(["bash", f"launch/hostile/bash/{script}.sh", *arguments], **env)

    def sbatch(self, **env: str) -> subprocess.CompletedProcess[str]:
        self._script("bin/srun", SRUN)
        self._script("bin/scontrol", SCONTROL)
        slurm = {"SLURM_JOB_ID": "123456", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[0-1]"}
        fakes = {"PATH": f"{self.bin}:{os.environ['PATH']}", "SRUN_OPTIONS": str(self.folder / "srun options")}
        return self._run(["bash", "launch/hostile/slurm/job.sbatch"], **{**slurm, **fakes, **env})

    def _run(self, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        base = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**base, "ALIGNLAUNCH_PYTHON": str(self.python), **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def told(self, rank: str = "") -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / f"told{rank}").read_text())
        return data


@contextmanager
def place(**keys: Any) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="a b'c$d") as folder:  # the place itself is hostile, too
        yield Place(Path(folder).resolve(), **keys)


def keys_of(values: list[str]) -> dict[str, Any]:
    """A job with the values everywhere: variables, model, data, output."""
    first = values[0]
    return {
        "env": {f"V{i}": value for i, value in enumerate(values)},
        "model": first,
        "data": {"train": values},
        "output_dir": first,
    }


def check_unchanged(at: Place, target: str, told: dict[str, Any], values: list[str]) -> None:
    assert [told["env"][f"V{i}"] for i in range(len(values))] == values
    assert told["env"]["TORCH_FR_DUMP_TEMP_FILE"] == f"{values[0]}/fr_rank_"
    resolved = at.folder / "launch" / "hostile" / target / "job.resolved.yaml"
    assert str(resolved) in told["argv"]
    plain = yaml.safe_load(resolved.read_text(encoding="utf-8"))
    loaded = config.load(resolved)
    assert plain["env"] == {f"V{i}": value for i, value in enumerate(values)}
    for got in (
        (plain["model"], plain["data"]["train"], plain["output_dir"]),
        (loaded.model, loaded.data.train, loaded.output_dir),
    ):
        assert got == (values[0], values, values[0])
    assert not Path("/tmp/evil").exists()  # noqa: S108 - what one of the values would make


def check_bash(values: list[str]) -> None:
    with place(**keys_of(values)) as at:
        done = at.bash("0", "1", "1")
        assert done.returncode == 0, done.stderr
        check_unchanged(at, "bash", at.told(), values)
        # Each figure still stands on a line of its own.
        starts = [line.partition(" ")[0] for line in done.stdout.rstrip("\n").split("\n")]
        assert starts == ["job", "model", "data", "output", "ZeRO", "nodes", "processes", "batch"]


def check_sbatch(values: list[str], launcher: str) -> None:
    with place(**keys_of(values), nnodes=2, nproc_per_node=1, launcher=launcher) as at:
        done = at.sbatch()
        assert done.returncode == 0, done.stderr
        for rank in ("0", "1"):
            check_unchanged(at, "slurm", at.told(rank), values)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:20])
def test_a_hostile_value_in_bash(value: str) -> None:
    check_bash([value])


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "direct"])
def test_all_hostile_values_in_slurm(launcher: str) -> None:
    check_sbatch(HOSTILE, launcher)


#: What an environment variable can hold, mostly signs that mean something to bash, YAML or Jinja.
texts = st.text(
    st.one_of(
        st.sampled_from(" '\"$`\\\n\r\t#!{}%-*()[];&|<>~=:,ENDa1"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=10)
@given(st.lists(texts, min_size=12, max_size=12))
def test_any_values_in_bash(values: list[str]) -> None:
    check_bash(values)


@settings(max_examples=6)
@given(st.lists(texts, min_size=12, max_size=12))
def test_any_values_in_slurm(values: list[str]) -> None:
    check_sbatch(values, "torchrun")


# --- the bash script's own interface ---


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(
        tmp_path_factory.mktemp("interface"),
        nnodes=2,
        nproc_per_node=4,
        zero=3,
        train={"per_device_train_batch_size": 3, "gradient_accumulation_steps": 5},
    )


def option(told: dict[str, Any], name: str) -> str:
    argv: list[str] = told["argv"]
    return argv[argv.index(name) + 1]


def rendezvous(told: dict[str, Any]) -> list[str]:
    """What torchrun and preflight read."""
    return [
        told["env"][f"PET_{name}"] for name in ("NNODES", "NPROC_PER_NODE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    ]


def test_defaults_come_from_the_job(at: Place) -> None:
    done = at.bash()
    assert done.returncode == 0, done.stderr
    told = at.told()
    assert rendezvous(told) == ["2", "4", "0", "localhost", "29500"]
    assert option(told, "--deepspeed") == str(at.folder / "launch/hostile/bash/zero3.json")
    assert told["argv"][:2] == ["-m", "alignlaunch.train.preflight"]
    assert told["argv"][told["argv"].index("--") + 1 :][:3] == [str(at.python), "-m", "torch.distributed.run"]
    assert "processes       8 (4 on each node)\n" in done.stdout
    assert "batch           3 x 8 x 5 = 120\n" in done.stdout
    assert "only right if all run on this machine" in done.stderr


def test_the_environment_form_and_arguments_that_win_over_it(at: Place) -> None:
    env = {"WORLD_SIZE": "3", "NPROC_PER_NODE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1234", "NODE_RANK": "2"}
    done = at.bash(**env)
    told = at.told()
    assert rendezvous(told) == ["3", "2", "2", "h", "1234"]
    assert "processes       6 (2 on each node)\n" in done.stdout
    assert "WORLD_SIZE" not in told["env"]  # there it would count nodes, where every reader expects processes
    assert at.bash("1", "4", "8", "host", "4321", **env).returncode == 0
    told = at.told()
    assert rendezvous(told) == ["4", "8", "2", "host", "4321"]
    assert option(told, "--deepspeed").endswith("/zero1.json")


def test_the_deepspeed_form(at: Place) -> None:
    done = at.bash("2", "3", "2", "head", "2000", script="deepspeed", NODE_RANK="1")
    assert done.returncode == 0, done.stderr
    told = at.told()
    names = ("--node_rank", "--master_addr", "--master_port")
    assert [option(told, name) for name in names] == ["1", "head", "2000"]
    assert "--no_ssh" in told["argv"]
    assert not Path(option(told, "--hostfile")).exists()  # removed at the end
    assert at.bash("2", script="deepspeed", STUB_CODE_="7").returncode == 7


@pytest.mark.parametrize("target", ["bash", "slurm"])
def test_no_preflight_where_the_job_says_so(tmp_path: Path, target: str) -> None:
    at = Place(tmp_path, nnodes=2, preflight_timeout=0)
    done = at.bash() if target == "bash" else at.sbatch()
    assert done.returncode == 0, done.stderr
    assert at.told("" if target == "bash" else "1")["argv"][:2] == ["-m", "torch.distributed.run"]


def test_one_process_needs_no_launcher(at: Place) -> None:
    assert at.bash("0", "1", "1").returncode == 0
    assert at.told()["argv"] == [
        "-m", "alignlaunch.train", str(at.folder / "launch/hostile/bash/job.resolved.yaml"), "--deepspeed", "none"
    ]  # fmt: skip


@pytest.mark.parametrize("script", ["torchrun", "deepspeed"])
@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["4"], {}, "zero_stage is '4'; 0, 1, 2 or 3 is due"),
        (["x"], {}, "zero_stage is 'x'"),
        (["-1"], {}, "zero_stage is '-1'"),
        (["3", "0"], {}, "num_nodes is '0'"),
        (["3", "two"], {}, "num_nodes is 'two'"),
        (["3", "-2"], {}, "num_nodes is '-2'"),
        (["3", "08"], {}, "num_nodes is '08'"),
        (["3", "1.5"], {}, "num_nodes is '1.5'"),
        (["3", "2", "0"], {}, "gpus_per_node is '0'"),
        (["3", "2", "a[$(id)]"], {}, "gpus_per_node is 'a[$(id)]'"),
        (["3", "2", "4", "h", "0"], {}, "master_port is '0'"),
        (["3", "2", "4", "h", "70000"], {}, "master_port is '70000'"),
        (["3", "2", "4", "h", "port"], {}, "master_port is 'port'"),
        (["3", "2", "4", "h", "1", "x"], {}, "5 arguments at most"),
        ([], {"NODE_RANK": "2"}, "NODE_RANK is '2'; with 2 nodes it goes from 0 to 1"),
        ([], {"NODE_RANK": "-1"}, "NODE_RANK is '-1'"),
        ([], {"NODE_RANK": "08"}, "NODE_RANK is '08'"),
        ([], {"NODE_RANK": "one"}, "NODE_RANK is 'one'"),
        (["3", "1"], {"NODE_RANK": "1"}, "NODE_RANK is '1'"),
        ([], {"WORLD_SIZE": "0"}, "num_nodes is '0'"),
        ([], {"NPROC_PER_NODE": ""}, None),  # empty is as good as unset
        ([], {"ALIGNLAUNCH_PYTHON": "no-such-python"}, "no no-such-python here"),
    ],
)
def test_arguments_are_checked(
    at: Place, script: str, arguments: list[str], env: dict[str, str], said: str | None
) -> None:
    done = at.bash(*arguments, script=script, **env)
    if said is None:
        assert done.returncode == 0, done.stderr
        return
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"{script}.sh: {said}")


@pytest.mark.parametrize("name", ["zero3.json", "job.resolved.yaml"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    broken = Place(tmp_path, zero=3)
    (tmp_path / "launch/hostile/bash" / name).unlink()
    done = broken.bash()
    assert done.returncode == 2
    assert f"/bash/{name}: render again" in done.stderr


# --- the sbatch script, outside Slurm ---


def test_head_node_port_and_rendezvous(tmp_path: Path) -> None:
    at = Place(tmp_path, nnodes=2, nproc_per_node=3)
    done = at.sbatch()
    assert done.returncode == 0, done.stderr
    for rank in ("0", "1"):
        env = at.told(rank)["env"]
        expected = {
            "PET_NNODES": "2",
            "PET_NPROC_PER_NODE": "3",
            "PET_NODE_RANK": rank,
            "PET_MASTER_ADDR": "node0",
            "PET_MASTER_PORT": "23456",
            "PET_RDZV_BACKEND": "c10d",
            "PET_RDZV_ENDPOINT": "node0:23456",
            "PET_RDZV_CONF": f"is_host={int(rank == '0')}",
            "PET_LOCAL_ADDR": f"node{rank}",
            "PET_RDZV_ID": "123456-0",
        }
        assert {name: env.get(name) for name in expected} == expected
        assert not {"MASTER_ADDR", "MASTER_PORT"} & set(env)
    options = (tmp_path / "srun options").read_text().split()
    assert {"--export=ALL", "--kill-on-bad-exit=1", "--label"} <= set(options)


@pytest.mark.parametrize("job_id", ["1", "9999", "10000", "4294967295"])
def test_ports_stay_below_the_ephemeral_range(tmp_path: Path, job_id: str) -> None:
    at = Place(tmp_path, nnodes=2, launcher="direct", nproc_per_node=1)
    assert at.sbatch(SLURM_JOB_ID=job_id).returncode == 0
    port = int(at.told("0")["env"]["MASTER_PORT"])
    assert 20000 <= port <= 29999
    assert port % 10000 == int(job_id) % 10000


def test_no_head_node_is_an_error_and_not_a_guess(tmp_path: Path) -> None:
    at = Place(tmp_path, nnodes=2)
    done = at.sbatch(SLURM_JOB_NODELIST="other[1-2]")
    assert (done.returncode, done.stderr) == (2, "alignlaunch: scontrol cannot expand other[1-2]\n")
    assert not (tmp_path / "told0").exists()


def test_the_wrong_folder_is_said(tmp_path: Path) -> None:
    at = Place(tmp_path, nnodes=2)
    shutil.rmtree(tmp_path / "launch" / "hostile" / "bash")
    (tmp_path / "launch/hostile/slurm/job.resolved.yaml").unlink()
    done = at.sbatch()
    assert done.returncode == 2
    assert "submit from the folder of the job file" in done.stderr


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "direct"])
def test_the_code_of_the_task_that_failed_first_wins(tmp_path: Path, launcher: str) -> None:
    """srun reports 143 of the neighbours that it ended; the run folder keeps the true code."""
    at = Place(tmp_path, nnodes=2, nproc_per_node=1, launcher=launcher)
    run_dir = tmp_path / "runs" / "one"
    shutil.copytree(tmp_path / "launch/hostile/slurm", run_dir)
    done = at.sbatch(ALIGNLAUNCH_RUN_DIR=str(run_dir), STUB_CODE_0="41", STUB_CODE_1="143", SRUN_CODE="143")
    assert done.returncode == 41, done.stderr
    assert (run_dir / "exit_code").read_text() == "41\n"
    # A requeued job starts without the codes of its first life.
    assert at.sbatch(ALIGNLAUNCH_RUN_DIR=str(run_dir)).returncode == 0
    assert (run_dir / "exit_code").read_text() == "0\n"


def test_srun_that_cannot_start_a_task_keeps_its_own_code(tmp_path: Path) -> None:
    at = Place(tmp_path, nnodes=2)
    assert at.sbatch(SRUN_CODE="9").returncode == 9
