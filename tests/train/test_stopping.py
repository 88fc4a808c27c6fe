"""A run that did not reach its end never looks finished, whatever stopped it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from alignlaunch.train import finish

from .conftest import ROOT, Runner, write_job


def weights(folder: Path) -> list[Path]:
    return [*folder.glob("*.safetensors"), *folder.glob("provenance.json")]


def test_a_loss_that_is_not_finite_ends_the_run(run_job: Runner) -> None:
    train = {"learning_rate": 1e30, "max_grad_norm": 0, "save_strategy": "steps", "save_steps": 1}
    found = run_job("not-finite", train=train)
    assert found.code == finish.BAD_INPUT
    assert "alignlaunch.train: error: step 2: the loss is nan (rank 0 on " in found.stderr
    assert "Traceback" not in found.stderr
    assert [path.name for path in found.output_dir.glob("checkpoint-*")] == ["checkpoint-1"]
    assert weights(found.output_dir) == []


def test_a_trainer_that_stops_early_leaves_no_result(workplace: Path) -> None:
    """Transformers' own answer to TERM, which a job file may not ask for: its trainer returns as if all were done."""
    job = write_job(workplace, "early", train={"enable_jit_checkpoint": True, "max_steps": 100_000})
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "alignlaunch.train", str(job)]
    with subprocess.Popen(command, cwd=workplace, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 1/"):
                process.send_signal(signal.SIGTERM)
                break
        said = process.stdout.read()
    output = workplace / "out" / "early"
    (checkpoint,) = output.glob("checkpoint-*")
    assert process.returncode == finish.STOPPED_EARLY
    assert f"of 100000; the last checkpoint is out/early/{checkpoint.name}, and no final weights are saved" in said
    assert weights(output) == []
