"""A pipeline on this machine whose second step trains on the best point of the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.support.tiny import TRAIN, make_model, write_data

from .stub_steps import call, status


def test_a_step_trains_on_the_best_point_that_there_is(tmp_path: Path) -> None:
    """One point fails, one learns nothing, one learns: the step behind them starts from that one."""
    make_model(tmp_path / "model")
    write_data(tmp_path)
    job: dict[str, Any] = {
        "nproc_per_node": 1,
        "zero": 0,
        "lora": None,
        "stage": "sft",
        "data": {"train": ["sft.jsonl"]},
    }
    points = [{"train.learning_rate": 0.0}, {"tokenizer": "./data"}, {"train.learning_rate": 1e-2}]
    (tmp_path / "data").mkdir()
    jobs = {
        "sft": {**job, "model": "model", "train": TRAIN, "sweep": {"points": points}},
        "on": {**job, "model": "${sft.best(loss).output}", "train": TRAIN | {"learning_rate": 0.0}},
    }
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump({"name": "chain", "jobs": jobs}, sort_keys=False))
    call(tmp_path, "local", "chain.yaml", code=2)
    assert [state for _, state, _, _ in status(tmp_path, "chain")] == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]
    (run,) = json.loads(call(tmp_path, "status", "chain-on", "--json").stdout)
    assert json.loads((Path(run["run_dir"]) / "chosen.json").read_text()) == {
        "output/chain-sft.best-loss": "output/chain-sft+lr0.01"
    }
    assert "is output/chain-sft+lr0.01: loss" in call(tmp_path, "logs", "chain-on").stdout
    assert (tmp_path / "output/chain-sft.best-loss").resolve() == tmp_path / "output/chain-sft+lr0.01"
    assert "4 clean" in call(tmp_path, "check").stderr
