"""Where DDP looks for parameters without a gradient."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    MixtralConfig,
)

from alignlaunch.train.config import Lora
from alignlaunch.train.model import adapter
from alignlaunch.train.stages import unused

CAUSAL: Any = AutoModelForCausalLM
SCORER: Any = AutoModelForSequenceClassification
SEEING: Any = AutoModelForImageTextToText


def test_a_text_model_leaves_none_out(workplace: Path) -> None:
    for model in (CAUSAL.from_pretrained(workplace / "model"), SCORER.from_pretrained(workplace / "helpful")):
        assert not unused.possible(model)
    model = SCORER.from_pretrained(workplace / "helpful")
    config = adapter.configure(Lora(), model, range(0), head="score")
    assert not unused.possible(get_peft_model(model, config))


def test_a_vision_tower_counts_where_it_is_trained(gallery: Path) -> None:
    model = SEEING.from_pretrained(gallery / "llava")
    assert unused.possible(model)
    config = adapter.configure(Lora(), model, range(0), head="lm")
    assert not unused.possible(get_peft_model(model, config))
    model = SEEING.from_pretrained(gallery / "llava")
    assert unused.possible(get_peft_model(model, LoraConfig(target_modules=["q_proj"])))  # the tower's, too


def test_experts_may_be_left_out() -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MixtralConfig(vocab_size=32, num_key_value_heads=2, num_local_experts=2, **sizes)
    assert unused.possible(CAUSAL.from_config(config))


@pytest.mark.parametrize("said", [True, False])
def test_what_the_job_says_stands(said: bool, workplace: Path) -> None:
    handler = SimpleNamespace(find_unused_parameters=said)
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(ddp_handler=handler),
        args=SimpleNamespace(ddp_find_unused_parameters=said),
        model=CAUSAL.from_pretrained(workplace / "model"),
    )
    unused.settle(trainer)
    assert handler.find_unused_parameters is said
