"""Two processes train exactly what one process trains at the same effective batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, Finished, Runner, write_job

EVALUATION = {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 2}
PAIRS = {"train": ["pairs.jsonl"], "validation": ["pairs_eval.jsonl"], "cache_dir": "cache"}


@pytest.fixture(scope="session")
def alone(run_job: Runner) -> dict[str, Finished]:
    """One process; two accumulated micro-batches for the two processes."""
    accumulate = {"gradient_accumulation_steps": 2}
    return {
        "sft": run_job("alone-sft", stage="sft", train=accumulate),
        "orpo": run_job("alone-orpo", stage="orpo", train=accumulate | EVALUATION, data=PAIRS),
    }


def assert_same(found: Finished, expected: Finished, *names: str) -> None:
    assert found.code == 0, found.stdout + found.stderr
    assert expected.code == 0, expected.stdout + expected.stderr
    for name in ("loss", "grad_norm", *names):
        assert len(expected.logged(name)) >= 2
        assert found.logged(name) == pytest.approx(expected.logged(name), abs=2e-6, rel=2e-6), name


@pytest.mark.parametrize("zero", [None, "zero1.json", "zero2.json", "zero3.json"])
def test_orpo(zero: str | None, run_job: Runner, alone: dict[str, Finished]) -> None:
    # Micro-batches of one pair, so that answers of different lengths meet across processes and micro-batches.
    split = EVALUATION | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
    found = run_job(f"two-orpo-{zero}", nproc=2, zero=zero, stage="orpo", train=split, data=PAIRS)
    assert "process 0 of 2 (torchrun)" in found.stdout
    assert_same(found, alone["orpo"], "nll_loss", "rewards/margins", "eval_loss", "eval_rewards/accuracies")
    assert found.logged("loss")[0] - found.logged("loss")[-1] > 0.1


@pytest.mark.parametrize("zero", ["zero1.json", "zero2.json", "zero3.json"])
def test_sft(zero: str, run_job: Runner, alone: dict[str, Finished]) -> None:
    found = run_job(f"two-sft-{zero}", nproc=2, zero=zero, stage="sft")
    assert_same(found, alone["sft"])
    assert found.logged("loss")[0] - found.logged("loss")[-1] > 0.1
    from transformers import AutoModelForCausalLM

    saved = AutoModelForCausalLM.from_pretrained(found.output_dir)
    expected = AutoModelForCausalLM.from_pretrained(alone["sft"].output_dir)
    for name, weight in expected.state_dict().items():
        assert weight.allclose(saved.state_dict()[name], atol=1e-5), name


def test_sft_with_one_srun_task_a_process(workplace: Path, alone: dict[str, Finished]) -> None:
    """DDP, started as `srun` starts it: no torchrun, Slurm's variables."""
    job = write_job(workplace, "srun-sft", stage="sft")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
    tasks = []
    for rank in range(2):
        env = os.environ | {
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1",
            "SLURM_STEP_ID": "0",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NODEID": "0",
            "SLURM_STEP_TASKS_PER_NODE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        command = [sys.executable, "-m", "alignlaunch.train", str(job)]
        pipe = subprocess.PIPE
        tasks.append(subprocess.Popen(command, cwd=workplace, env=env, stdout=pipe, stderr=pipe, text=True))
    out = [task.communicate(timeout=300) for task in tasks]
    codes = [task.returncode for task in tasks]
    found = Finished(max(codes), "".join(o for o, _ in out), "".join(e for _, e in out), workplace / "out" / "srun-sft")
    assert_same(found, alone["sft"])
    assert "process 0 of 2 (slurm)" in out[0][0]
    assert "step 1/4" not in out[1][0], "rank 1 logs too"
    provenance = json.loads((found.output_dir / "provenance.json").read_text())
    assert (provenance["world_size"], provenance["dialect"]) == (2, "slurm")
