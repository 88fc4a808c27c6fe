"""LoRA's parameters are PEFT's own count, on models that stand on the meta device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.planner import lora
from alignlaunch.launchers.planner.architecture import shapes
from alignlaunch.train.config import Lora
from alignlaunch.train.model import adapter

from .test_shapes import VARIANTS, as_file, config_of, meta_model


def trained(config: Any, wanted: Lora, auto: str = "AutoModelForCausalLM") -> int:
    import peft

    model = meta_model(config, auto)
    head: Any = "lm" if auto == "AutoModelForCausalLM" else "score"
    made: Any = peft.get_peft_model(model, adapter.configure(wanted, model, range(0), head=head))
    count: int = made.get_nb_trainable_parameters()[0]
    return count


@pytest.mark.parametrize(("family", "more"), VARIANTS, ids=lambda v: v if isinstance(v, str) else ",".join(v) or "-")
def test_all_linear_layers(tmp_path: Path, family: str, more: dict[str, Any]) -> None:
    config, wanted = config_of(family, more), Lora(r=4, dropout=0)  # PEFT wants no dropout on experts
    arch = shapes.architecture(as_file(config, tmp_path))
    assert lora.trainable(shapes.parameters(arch), wanted, arch.family) == trained(config, wanted)


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        ("llama", Lora(r=3, target_modules="q_proj, v_proj")),
        ("qwen2", Lora(r=5, target_modules=["q_proj", "down_proj"])),
        ("gpt2", Lora(r=2, target_modules=["attn.c_proj"])),
        ("llama", Lora(r=4, dora=True)),
        ("gpt2", Lora(r=4, dora=True)),
    ],
)
def test_named_layers_and_dora(tmp_path: Path, family: str, wanted: Lora) -> None:
    config = config_of(family, {})
    arch = shapes.architecture(as_file(config, tmp_path))
    assert lora.trainable(shapes.parameters(arch), wanted, arch.family) == trained(config, wanted)


def test_a_reward_models_head_is_trained_too(tmp_path: Path) -> None:
    config, wanted = config_of("qwen3", {"num_labels": 1}), Lora(r=4)
    arch = shapes.architecture(as_file(config, tmp_path))
    assert lora.trainable(shapes.parameters(arch, score_head=True), wanted, arch.family) == trained(
        config, wanted, "AutoModelForSequenceClassification"
    )
