"""The bash and sbatch scripts outside any cluster: what they tell the processes, check beforehand, and end with."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from .script_runs import Place


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
    assert told["argv"][told["argv"].index("--") + 1 :][:3] == [str(at.python), "-m", "alignlaunch.train.torchrun"]
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
    assert at.told("" if target == "bash" else "1")["argv"][:2] == ["-m", "alignlaunch.train.torchrun"]


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
            "PET_RDZV_ID": "123456-0",
            "PET_MAX_RESTARTS": "10",
        }
        assert {name: env.get(name) for name in expected} == expected
        assert not {"MASTER_ADDR", "MASTER_PORT"} & set(env)
    options = (tmp_path / "srun options").read_text().split()
    assert {"--export=ALL", "--kill-on-bad-exit=1", "--label"} <= set(options)


def test_processes_are_told_when_they_were_queued_and_began(tmp_path: Path) -> None:
    at = Place(tmp_path, nnodes=2)
    at.sbatch(TZ="UTC")
    began, queued = at.told("0")["env"]["ALIGNLAUNCH_BEGAN"].split()
    assert (int(queued), abs(int(began) - time.time()) < 3600) == (1796040000, True)
    at.sbatch(SLURM_JOB_ID="1")  # of which squeue does not know
    assert len(at.told("0")["env"]["ALIGNLAUNCH_BEGAN"].split()) == 1


@pytest.mark.parametrize("job_id", ["1", "9999", "10000", "4294967295"])
def test_ports_stay_below_the_ephemeral_range(tmp_path: Path, job_id: str) -> None:
    at = Place(tmp_path, nnodes=2, launcher="direct", nproc_per_node=1)
    assert at.sbatch(SLURM_JOB_ID=job_id).returncode == 0
    port = int(at.told("0")["env"]["MASTER_PORT"])
    assert 20000 <= port <= 29999
    assert port % 10000 == int(job_id) % 10000
    at.sbatch(SLURM_JOB_ID=job_id, SLURM_RESTART_COUNT="99")
    assert 20000 <= int(at.told("0")["env"]["MASTER_PORT"]) <= 29999


def test_a_restart_takes_another_port(tmp_path: Path) -> None:
    """Somebody may have taken the one before, and would end every attempt."""
    at = Place(tmp_path, nnodes=2)
    ports = set()
    for count in ("0", "1", "2"):
        at.sbatch(SLURM_JOB_ID="7", SLURM_RESTART_COUNT=count)
        ports.add(at.told("0")["env"]["PET_MASTER_PORT"])
    assert len(ports) == 3


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
