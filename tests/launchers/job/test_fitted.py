"""`train.effective_batch_size` with a profile that says the GPU's memory: what the planner finds is rendered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile, pipeline
from alignlaunch.launchers.job.job import Job
from alignlaunch.launchers.planner import memory, plan, strategies
from alignlaunch.launchers.render import render
from tests.conftest import Cli

LLAMA_7B = {
    **{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
    **{"intermediate_size": 11008, "vocab_size": 32000, "tie_word_embeddings": False},
}


def write(folder: Path, *, profile: dict[str, Any] | None = None, **keys: Any) -> Path:
    """A job of Llama-2-7B on 8 GPUs of 80 GiB."""
    for name in ("model", "clusters"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(LLAMA_7B))
    (folder / "clusters" / "lab.yaml").write_text(json.dumps({"gpu_memory_gib": 80} if profile is None else profile))
    job = {"name": "big", "stage": "sft", "model": "./model", "data": {"train": ["data.jsonl"]}, "nproc_per_node": 8}
    train = {"effective_batch_size": 64, "max_length": 2048}
    (folder / "job.yaml").write_text(json.dumps({**job, "train": train, **keys}))
    return folder / "job.yaml"


def load(path: Path, *overrides: str) -> Job:
    return jobfile.load(path, overrides, "lab")


def fits(job: Job) -> bool | None:
    return plan.of(job).fits


def test_the_largest_micro_batch_that_fits_under_the_strategy_that_is_given(tmp_path: Path) -> None:
    path = write(tmp_path, zero=3, lora=None)
    sizes = {}
    for length in (1024, 4096, 16384, 65536):
        job = load(path, f"train.max_length={length}")
        assert job.zero is not None
        assert (job.zero.stage, job.effective_batch_size, fits(job)) == (3, 64, True)
        sizes[length] = job.per_device_batch_size
        if job.per_device_batch_size < 8:
            more = (f"train.per_device_train_batch_size={2 * job.per_device_batch_size}", f"train.max_length={length}")
            peak = memory.peak(plan.of(load(path, *more)).setup).total
            assert peak > 0.9 * 80 * memory.GIB - strategies.OVERHEAD
    assert sorted(set(sizes.values()), reverse=True) == list(dict.fromkeys(sizes.values()))
    assert (sizes[1024], len(set(sizes.values())) > 2) == (8, True)


def test_what_was_chosen_and_why_is_said(tmp_path: Path) -> None:
    job = load(write(tmp_path, zero=3, lora=None), "train.max_length=16384")
    peak = memory.peak(plan.of(job).setup).total / memory.GIB
    micro = job.per_device_batch_size
    said = f"micro-batch {micro} x accumulation {8 // micro} x 8 processes = 64"
    assert 1 < micro < 8
    assert job.batch == f"{said}: the largest that leaves a tenth of 80 GiB free (plan: {peak:.1f} GiB)"
    assert f"\n# Batch of a step: {job.batch}\n" in render.render(job, "slurm", "job.yaml")[render.RESOLVED]
    whole = load(write(tmp_path, zero=3, lora=None), "train.effective_batch_size=8")
    assert (
        "micro-batch 1 x accumulation 1 x 8 processes = 8: a whole step, which leaves a tenth of 80 GiB free (plan: "
        in whole.batch
    )


def test_a_strategy_that_nobody_gave_is_the_one_that_moves_least(tmp_path: Path) -> None:
    path = write(tmp_path, lora=None)
    job = load(path)
    planned = plan.of(job)
    assert (planned.fits, job.zero is not None) == (True, True)
    assert f", {strategies.name(planned.setup)})" in job.batch
    assert (job.spec.zero, load(path, "stage=orpo").spec.zero) == (2, 1)  # by default 2, which moves no more, and 3
    for given, stage in (("zero=3", 3), ("zero=1", 1), ("offload=optimizer", 2)):
        kept = load(path, given)
        assert (kept.spec.zero, "ZeRO" in kept.batch) == (stage, False)


def test_rules_of_other_keys_hold_for_what_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, lora={"r": 8})
    assert load(path, "launcher=deepspeed").zero is not None
    elastic = load(write(tmp_path, lora={"r": 8}, nnodes="1:2"))
    assert (elastic.zero, elastic.effective_batch_size) == (None, 64)
    config = {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": "auto", "gradient_accumulation_steps": "auto"}
    (tmp_path / "z.json").write_text(json.dumps({**config, "zero_optimization": {"stage": 2}}))
    path = write(tmp_path, lora={"r": 8})
    with pytest.raises(JobFileError, match=r"disagrees with the job: train\.per_device_train_batch_size gives 8"):
        load(path, "zero=z.json")


def test_nothing_fits(tmp_path: Path) -> None:
    job = load(write(tmp_path, zero=0, lora=None, stage="dpo"))
    assert (job.per_device_batch_size, job.accumulation_steps) == (1, 8)
    assert job.batch.endswith(
        "the smallest, and by the plan not even that leaves a tenth of 80 GiB free (`alignlaunch plan` says what would)"
    )


def test_nothing_is_guessed(tmp_path: Path) -> None:
    said = {}
    for name, profile in {"none": {}, "cpu": {"device": "cpu", "gpu_memory_gib": 80}}.items():
        job = load(write(tmp_path, profile=profile))
        said[name] = job.batch
        assert (job.spec.zero, job.per_device_batch_size) == (2, 1)
    assert all("the stage's default: no cluster profile says how much memory" in one for one in said.values())
    path = write(tmp_path)
    shutil.rmtree(tmp_path / "model")
    job = load(path)
    assert (job.spec.zero, job.per_device_batch_size) == (2, 1)
    assert "not planned, as the model's config.json could not be read where this was rendered" in job.batch


def test_a_later_step_is_planned_with_the_first_one_s_model_before_and_after_that_has_run(tmp_path: Path) -> None:
    write(tmp_path)
    second = {"job": "job.yaml", "name": "second", "output_dir": "out/second"}
    first = {"job": "job.yaml", "name": "first", "output_dir": "out/first"}
    seeds = {**first, "name": "seeds", "output_dir": "out/seeds", "sweep": {"over": {"train.seed": [1, 2]}}}
    chain = {
        **{"a": first, "b": {**second, "model": "${a.output}"}, "c": seeds},
        "d": {**second, "name": "fourth", "output_dir": "out/d", "model": "${c.best(eval_loss).output}"},
        "e": {**second, "name": "fifth", "output_dir": "out/e", "model": "${a.output}/checkpoint-5"},
    }
    (tmp_path / "chain.yaml").write_text(json.dumps({"name": "chain", "jobs": chain}))

    def batches() -> dict[str, str]:
        return {name: job.batch for name, job in pipeline.load(tmp_path / "chain.yaml", (), "lab").jobs.items()}

    before = batches()
    assert before["a"] == before["b"] == before["d"]
    assert "leaves a tenth of 80 GiB free" in before["a"]
    assert "not planned" in before["e"]
    for made in ("out/first", "out/first/checkpoint-5", "out/seeds.best-eval_loss"):
        (tmp_path / made).mkdir(parents=True, exist_ok=True)
        (tmp_path / made / "config.json").write_text(json.dumps(LLAMA_7B | {"num_hidden_layers": 200}))
    assert batches() == before


def test_the_words_alone_are_no_drift_and_the_values_are(tmp_path: Path, cli: Cli) -> None:
    path = write(tmp_path, zero=3, lora=None, k8s={"image": "a:1", "working_dir": "/w", "volumes": {}})
    for target in ("slurm", "bash"):
        assert cli("render", path, "--cluster", "lab", "--target", target).returncode == 0
    folder = tmp_path / "launch" / "big" / "slurm"
    resolved = folder / render.RESOLVED
    assert yaml.safe_load(resolved.read_text())["train"]["per_device_train_batch_size"] == 8
    files = {name: (folder / name).read_text() for name in sorted(one.name for one in folder.iterdir())}
    assert drift.artifacts(load(path), "slurm", folder) == files
    assert drift.diff(folder, files | {render.RESOLVED: resolved.read_text().replace("80 GiB", "81 GiB")}) == ""
    assert cli("check", tmp_path).returncode == 0
    (tmp_path / "clusters" / "lab.yaml").write_text(json.dumps({"gpu_memory_gib": 16}))
    drifted = cli("check", tmp_path)
    assert drifted.returncode == 1
    assert "train.per_device_train_batch_size: 8 → " in drifted.stdout
