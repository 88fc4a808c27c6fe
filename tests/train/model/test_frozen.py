"""Under ZeRO-3 no process ever holds a whole model: not the policy's start, and no reward model, an adapter or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.matrix import matrix
from tests.train.conftest import Runner, run_program, write_job

#: The entrypoint, with what is gathered at one time told: the tiny models have some 30,000 weights.
PROGRAM = """
import deepspeed
from deepspeed.runtime.zero import partition_parameters as zero
enter = zero.GatheredParameters.__enter__
def told(self):
    count = sum(p.ds_numel for p in self.params if hasattr(p, "ds_numel")) if self.enabled else 0
    print(f"gathered {count}", flush=True)
    return enter(self)
zero.GatheredParameters.__enter__ = told
from alignlaunch.train.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("scores", "lora"),
    [("live", None), matrix("precomputed", None), matrix("precomputed", {"r": 2, "alpha": 4, "dropout": 0.0})],
)
def test_no_model_is_gathered_whole(
    scores: str, lora: dict[str, object] | None, workplace: Path, run_job: Runner
) -> None:
    adapter = run_job("frozen-rm", stage="rm", lora={"r": 2, "alpha": 4, "dropout": 0.0}, train={"max_steps": 1})
    assert adapter.code == 0, adapter.stderr
    train = {"max_steps": 1, "scores": scores, "eval_generate": 2, "eval_max_new_tokens": 4}
    train |= {"helpful_reward_model": "helpful", "harmless_reward_model": "out/frozen-rm"}
    data = {"train": ["safe.jsonl"], "validation": ["safe_eval.jsonl"], "cache_dir": "cache"}
    job = write_job(workplace, f"frozen-{scores}-{bool(lora)}", stage="safe_dpo", lora=lora, train=train, data=data)
    done = run_program(workplace, PROGRAM, job, "--deepspeed", "zero3.json")
    assert done.returncode == 0, done.stderr
    assert "train.harmless_reward_model: out/frozen-rm is an adapter; using the merged model " in done.stdout
    gathered = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("gathered ")]
    assert max(gathered) < 15_000, "more than half of a model at one time"
