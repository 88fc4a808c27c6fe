"""The shipped list of DeepSpeed's keys is that of the installed DeepSpeed."""

from __future__ import annotations

import json

import pytest

from alignlaunch.train.arguments import deepspeed_keys


def test_the_file_is_up_to_date() -> None:
    pytest.importorskip("deepspeed")
    assert deepspeed_keys.FILE.read_text() == deepspeed_keys.text(), (
        "python -m alignlaunch.train.arguments.deepspeed_keys --write"
    )


def test_what_the_file_says() -> None:
    found = json.loads(deepspeed_keys.FILE.read_text())
    top = found["sections"][""]
    assert {"train_batch_size", "optimizer", "scheduler", "zero_optimization", "aio", "flops_profiler"} <= {*top}
    assert not {"bfloat16", "nebula", "elasticity"} & {*top}
    assert {"stage", "stage3_max_live_parameters", "offload_param"} <= {*found["sections"]["zero_optimization"]}
    assert found["replaced"]["zero_optimization.cpu_offload"] == "offload_optimizer"
