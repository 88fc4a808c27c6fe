"""A checkpoint of ZeRO-1 or 2 goes on in another number of processes, or under the other of the two stages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from alignlaunch.train.outputs import checkpoints, universal
from tests.support.matrix import matrix
from tests.train.conftest import Runner

LORA = {"r": 4, "alpha": 8, "dropout": 0.0}
#: Four records a step. Without dropout, as the random numbers of each process are its own.
TRAIN = {
    **{"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "save_total_limit": None, "logging_steps": 1},
    **{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "lr_scheduler_type": "linear"},
    **{"learning_rate": 0.01, "weight_decay": 0.1},
}
ONE_OR_TWO = {"zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_pp_rank_1_mp_rank_00_optim_states.pt"}


@pytest.mark.parametrize(
    ("zero", "adapted", "then", "processes"),
    [
        ("zero2.json", False, "zero1.json", 1),
        matrix("zero1.json", False, "zero2.json", 4),
        matrix("zero2.json", True, "zero2.json", 4),
        matrix("zero1.json", True, "zero1.json", 1),
    ],
)
@pytest.mark.parametrize("stage", ["sft", matrix("orpo")])
def test_it_goes_on_to_the_same_losses(
    stage: str, zero: str, adapted: bool, then: str, processes: int, run_job: Runner
) -> None:
    name, changes = f"split-{stage}-{zero}-{adapted}", {"stage": stage, "lora": LORA if adapted else None}
    whole = run_job(name, nproc=2, zero=zero, train=TRAIN, **changes)
    assert whole.code == 0, whole.stderr
    resume = f"out/{name}/checkpoint-3"
    again = run_job(f"{name}-{then}-{processes}", nproc=processes, zero=then, train=TRAIN, resume=resume, **changes)
    assert again.code == 0, again.stderr
    assert f"{resume} is converted by DeepSpeed: it holds the optimizer state of 2 process(es)" in again.stdout
    for key in ("loss", "grad_norm", "learning_rate"):
        assert again.logged(key) == [pytest.approx(value, abs=1e-4) for value in whole.logged(key)[-3:]], key
    assert not list(again.output_dir.glob(".saving/universal/*/global_step*_universal")), "it is large"


def job(**changes: Any) -> SimpleNamespace:
    plugin = SimpleNamespace(deepspeed_config={"zero_optimization": changes.pop("zero", {})})
    return SimpleNamespace(
        **{"optim": "adamw_torch", "load_best_model_at_end": False, "fp16": False, "deepspeed_plugin": plugin} | changes
    )


def test_what_is_not_shown_to_hold_is_refused() -> None:
    assert universal.fault(ONE_OR_TWO, job(), 2) == ""
    assert "ZeRO-3" in universal.fault(ONE_OR_TWO, job(), 3)
    assert "ZeRO-3" in universal.fault({*ONE_OR_TWO, "zero_pp_rank_0_mp_rank_00_model_states.pt"}, job(), 2)
    assert "DDP" in universal.fault(set(), job(), 2)
    assert "DDP" in universal.fault(ONE_OR_TWO, job(), 0)
    assert "train.optim is adafactor" in universal.fault(ONE_OR_TWO, job(optim="adafactor"), 1)
    assert "load_best_model_at_end" in universal.fault(ONE_OR_TWO, job(load_best_model_at_end=True), 1)
    assert "not been tried" in universal.fault(ONE_OR_TWO, job(fp16=True), 1)
    assert "not been tried" in universal.fault(ONE_OR_TWO, job(zero={"offload_optimizer": {"device": "cpu"}}), 1)


def test_the_same_split_needs_nothing() -> None:
    assert checkpoints.other_split(ONE_OR_TWO, 1, 2) == ""
    assert checkpoints.other_split(set(), 0, 7) == ""
    assert checkpoints.other_split(ONE_OR_TWO, 2, 3).endswith(
        "under ZeRO-1 or 2, and this run has 3 process(es) under ZeRO-2"
    )
