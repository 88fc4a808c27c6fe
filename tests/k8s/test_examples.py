"""The job files of examples/, unchanged, on a real model: two pods learn what two nodes and one process learn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .cli import User
from .cluster import Cluster
from .test_submit import losses

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["sft-zero2", "orpo-zero3", "quickstart"])
def test_the_examples_train_a_real_model(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """tests/slurm/test_train.py has the same for Slurm."""
    if not (EXAMPLES / "models/SmolLM2-135M-Instruct/config.json").is_file():
        pytest.fail("no real model: run `make test`, or python examples/prepare_model.py")
    cluster.need("PyTorchJob")
    user = User(cluster, tmp_path)
    job = Path(shutil.copy(EXAMPLES / f"{name}.yaml", tmp_path)).name
    for folder in ("models", "data"):
        (tmp_path / folder).symlink_to(EXAMPLES / folder)
    cluster.fill_claim("data", EXAMPLES)
    # No dropout: its random numbers differ between one process and two.
    changes = ["train.max_steps=3", "train.eval_strategy=no", "train.save_strategy=no", "lora.dropout=0"]
    shorter = [word for change in changes for word in ("--set", change)]
    memory = ["--set", "k8s.memory=6Gi"]
    done = user.call("k8s", job, "--cluster", "lab", "--follow", *shorter, *memory, code=None)
    assert done.returncode == 0, done.stdout + done.stderr
    pods = losses(cluster.read_claim("data", f"output/{name}/metrics.jsonl").decode())
    one_process = ["nnodes=1", "zero=0", "train.gradient_accumulation_steps=4", "output_dir=alone"]
    user.call("local", job, *shorter, *(word for change in one_process for word in ("--set", change)))
    assert pods == pytest.approx(losses((tmp_path / "alone/metrics.jsonl").read_text()), abs=1e-4)
    assert len(pods) == 3
