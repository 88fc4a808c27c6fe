"""The estimate of tokens a second, against the measurements that it is made from, and against the MFU of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.planner import plan, speed
from alignlaunch.launchers.planner.architecture import model, shapes
from alignlaunch.launchers.planner.memory import Setup
from alignlaunch.launchers.planner.plan import Plan
from alignlaunch.launchers.planner.tuning import Tuning
from alignlaunch.train.config import Lora
from tests.conftest import Cli

from .test_plan import write

LLAMA_8B = {
    **{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
    **{"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False},
}
QWEN_7B = {
    **{"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28},
    **{"num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False},
}


def setup(config: dict[str, Any], length: int, lora: Lora | None = None, **more: Any) -> Setup:
    arch = shapes.architecture(config)
    found = model.Model("it", arch, shapes.parameters(arch), "config.json", exact=True)
    keys: dict[str, Any] = {
        "stage": "sft",
        "nnodes": 1,
        "nproc_per_node": 8,
        "zero": 2,
        "offload": "none",
        "half": True,
    }
    sizes: dict[str, Any] = {"sequences": 1, "length": length, "accumulation": 1, "checkpointing": True}
    return Setup(tuning=Tuning(found, lora, "none"), **(keys | sizes | more))


@pytest.mark.parametrize(
    ("config", "length", "lora", "gpu", "measured"),
    [
        (LLAMA_8B, 8192, None, "h100", 6667),
        (LLAMA_8B, 4096, None, "h200", 10471),
        (LLAMA_8B, 4096, Lora(), "h100", 12473),
        (QWEN_7B, 4096, Lora(), "h100", 14110),
    ],
)
def test_the_measurements_are_in_their_band(
    config: dict[str, Any], length: int, lora: Lora | None, gpu: str, measured: float
) -> None:
    found = speed.of(setup(config, length, lora), gpu)
    assert found is not None
    slow, fast = found.tokens
    assert 0.99 * slow <= measured <= 1.01 * fast


def test_the_band_ends_at_measurements() -> None:
    lowest, highest = (speed.of(setup(LLAMA_8B, n), gpu) for n, gpu in ((8192, "h100"), (4096, "h200")))
    assert lowest is not None
    assert highest is not None
    assert [lowest.tokens[0], highest.tokens[1]] == pytest.approx([6667, 10471], rel=0.02)


def test_nothing_is_said_of_what_nobody_measured() -> None:
    job = setup(LLAMA_8B, 4096)
    assert speed.of(job, "h100") is not None
    unlike = [
        *(replace(job, half=False), replace(job, offload="optimizer")),
        replace(job, tuning=Tuning(job.tuning.model, Lora(), "4bit")),
        setup(QWEN_7B | {"model_type": "qwen2_vl", "text_config": QWEN_7B}, 4096),
        setup(LLAMA_8B | {"model_type": "mixtral", "num_local_experts": 8}, 4096),
    ]
    assert [speed.of(one, "h100") for one in unlike] == [None] * len(unlike)
    assert speed.of(job, "abacus") is None


def test_pairs_have_a_band_of_their_own() -> None:
    pairs = speed.of(setup(LLAMA_8B, 4096, stage="dpo", sequences=2, sequences_per_sample=2), "h100")
    assert pairs is not None
    assert (pairs.mfu, "open-instruct" in pairs.source) == ((0.225, 0.39), True)


def loaded(path: Path, *overrides: str) -> Plan:
    return plan.of(jobfile.load(path, overrides, "lab"))


def test_hours_follow_from_the_steps(tmp_path: Path, cli: Cli) -> None:
    path = write(tmp_path, zero=3, gpu_type="h100")
    found = loaded(path)
    assert found.speed is not None
    tokens = 100 * 8 * 4 * 2048
    assert found.hours == pytest.approx([tokens / (8 * each) / 3600 for each in reversed(found.speed.tokens)])
    unknown = loaded(path, "train.max_steps=-1")
    assert (unknown.hours, unknown.speed) == (None, found.speed)
    estimate = json.loads(cli("plan", path, "--cluster", "lab", "--json").stdout)["estimate"]["speed"]
    assert estimate == {
        "mfu": [0.39, 0.54],
        "tokens_per_second_per_gpu": list(found.speed.tokens),
        "hours": list(found.hours or ()),
        "source": speed.SEQUENCES.source,
    }
    said = cli("plan", path, "--cluster", "lab").stdout
    assert "tokens/s a GPU; all steps in at most 0.0" in said
    assert "hours, at 39 to 54 % of a h100's peak (MFU), as measured: torchtitan, " in said
    for profile in ({}, {"gpu_type": "any"}, {"gpu_type": "h100", "device": "cpu"}):
        path = write(tmp_path, zero=3, **profile)
        assert loaded(path).speed is None
        assert "tokens/s" not in cli("plan", path, "--cluster", "lab").stdout


@pytest.mark.parametrize(("tied", "lora"), [(True, None), (False, None), (True, Lora(r=4)), (False, Lora(r=4))])
def test_flops_are_those_of_a_run_s_mfu(*, tied: bool, lora: Lora | None) -> None:
    torch = pytest.importorskip("torch")
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    from alignlaunch.train import flops

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LLAMA_8B | small | {"intermediate_size": 32, "vocab_size": 100, "tie_word_embeddings": tied}
    with torch.device("meta"):
        made = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**config))
        if lora:
            wanted = peft.LoraConfig(
                r=lora.r, lora_alpha=lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            )
            made = peft.get_peft_model(made, wanted)
    ours = speed.of(setup(config, 64, lora), "h100")
    theirs = flops.per_token(made, 64)
    assert ours is not None
    assert theirs is not None
    assert ours.tokens[0] == pytest.approx(0.39 * 989e12 / theirs)
