"""With `load_best_model_at_end` the result is the best checkpoint's weights, not the last one's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignlaunch.train import config, session
from alignlaunch.train.errors import UserError
from alignlaunch.train.stages import sft
from tests.support.matrix import matrix
from tests.train.conftest import Runner, write_job

pytestmark = pytest.mark.matrix  # many real runs: `make test` is to stay short

LORA = {"r": 4, "alpha": 8, "dropout": 0.0}
DATA = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"], "cache_dir": "cache"}
#: A full fine-tune diverges at this learning rate: the last checkpoint is the worst.
TRAIN: dict[str, Any] = {
    "max_steps": 5,
    "learning_rate": 0.3,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 3,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What a folder holds: a whole model, or an adapter."""
    (file,) = [
        path for path in folder.glob("*.safetensors") if path.name in ("model.safetensors", "adapter_model.safetensors")
    ]
    return load_file(file)


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize(
    ("lora", "zero", "nproc"),
    [
        (None, None, 1),
        matrix(LORA, None, 1),
        matrix(LORA, None, 2),
        matrix(None, "zero3.json", 2),
        matrix(LORA, "zero3.json", 2),
        matrix(None, "zero2.json", 2),
    ],
)
def test_it_is_saved_also_by_a_run_that_was_resumed(
    lora: dict[str, Any] | None, zero: str | None, nproc: int, run_job: Runner
) -> None:
    # An adapter learns: that the best is not the last, more loss is called better.
    chosen = max if lora else min
    train = TRAIN | {"greater_is_better": lora is not None}
    changes = {"lora": lora, "zero": zero, "nproc": nproc, "data": DATA, "train": train}
    name = f"best-{bool(lora)}-{zero}-{nproc}"
    for attempt in ("0", "1"):
        found = run_job(name, **changes, env={"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": attempt})
        assert found.code == 0, found.stderr
        losses = found.logged("eval_loss")[:5]
        best = found.output_dir / f"checkpoint-{losses.index(chosen(losses)) + 1}"
        assert abs(losses[-1] - chosen(losses)) > 0.1, "nothing to choose"
        state = json.loads((found.output_dir / "checkpoint-5" / "trainer_state.json").read_text())
        assert state["best_model_checkpoint"] == f"out/{name}/{best.name}"
        assert_equal(weights(found.output_dir), weights(best))
        left = sorted(path.name for path in found.output_dir.glob("checkpoint-*"))
        assert left == [best.name, "checkpoint-4", "checkpoint-5"]
        (found.output_dir / "checkpoint-5" / "checkpoint-is-incomplete.txt").touch()
    assert f"resuming from out/{name}/checkpoint-4" in found.stdout


def test_nothing_to_choose_by(workplace: Path) -> None:
    """What the submitting side would have told."""
    job = config.load(write_job(workplace, "best-refused", data=DATA, train=TRAIN | {"eval_strategy": "no"}))
    with pytest.raises(UserError, match="load_best_model_at_end requires the save and eval strategy to match"):
        session.training_arguments(job, sft.Config, "fp32", None, cuda=False)
