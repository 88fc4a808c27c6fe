"""Parameters by shape: name for name those of transformers' own models, which are built on the meta device here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.planner.architecture import shapes
from alignlaunch.launchers.planner.architecture.families import FAMILIES

SMALL: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 101,
    "pad_token_id": 0,
}
#: Beyond each family with its own defaults: what changes shapes.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in FAMILIES),
    ("llama", {"tie_word_embeddings": True}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 32}),
    ("qwen3", {"tie_word_embeddings": True, "head_dim": 16}),
    ("gemma2", {"head_dim": 32}),
    ("mixtral", {"num_local_experts": 3}),
    ("qwen2_moe", {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40}),
    ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 24, "decoder_sparse_step": 2}),
    ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 24, "mlp_only_layers": [0]}),
    ("qwen2_moe", {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 0}),
    ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 24, "mlp_only_layers": [0, 1], "decoder_sparse_step": 0}),
    ("qwen3_moe", {"num_experts": 0, "decoder_sparse_step": 0}),
    ("gpt_neox", {"attention_bias": False}),
    ("phi", {"tie_word_embeddings": True}),
]


def meta_model(config: Any, auto: str = "AutoModelForCausalLM") -> Any:
    import torch
    import transformers

    with torch.device("meta"):
        return getattr(transformers, auto).from_config(config)


def config_of(family: str, more: dict[str, Any]) -> Any:
    import transformers

    given = {**SMALL, **more}
    if family == "gpt2":
        given = {"n_embd": 48, "n_layer": 2, "n_head": 6, "n_positions": 64, "vocab_size": 101}
    return transformers.AutoConfig.for_model(family, **given)


def as_file(config: Any, folder: Path) -> dict[str, Any]:
    """What `save_pretrained` leaves of a configuration: all that the submitting side sees."""
    config.save_pretrained(folder)
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


@pytest.mark.parametrize(("family", "more"), VARIANTS, ids=lambda v: v if isinstance(v, str) else ",".join(v) or "-")
def test_every_name_and_shape(tmp_path: Path, family: str, more: dict[str, Any]) -> None:
    config = config_of(family, more)
    arch = shapes.architecture(as_file(config, tmp_path))
    assert arch.known
    assert shapes.parameters(arch) == {n: tuple(p.shape) for n, p in meta_model(config).named_parameters()}


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "mixtral"])
def test_a_reward_model_has_a_score_head(tmp_path: Path, family: str) -> None:
    config = config_of(family, {"num_labels": 1})
    found = shapes.parameters(shapes.architecture(as_file(config, tmp_path)), score_head=True)
    model = meta_model(config, "AutoModelForSequenceClassification")
    assert found == {n: tuple(p.shape) for n, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("published", "family", "more"),
    [
        (6_738_415_616, "llama", {}),  # Llama-2-7B
        (
            32_763_876_352,  # Qwen2.5-32B
            "qwen2",
            {
                "hidden_size": 5120,
                "num_hidden_layers": 64,
                "num_attention_heads": 40,
                "num_key_value_heads": 8,
                "intermediate_size": 27648,
                "vocab_size": 152064,
            },
        ),
        (46_702_792_704, "mixtral", {}),  # Mixtral-8x7B
    ],
)
def test_published_sizes(tmp_path: Path, published: int, family: str, more: dict[str, Any]) -> None:
    import transformers

    config = transformers.AutoConfig.for_model(family, **more)
    assert shapes.count(shapes.parameters(shapes.architecture(as_file(config, tmp_path)))) == published


def test_the_largest_module_is_deepspeeds(tmp_path: Path) -> None:
    import transformers
    from deepspeed.runtime.zero.stage3 import model_to_params  # type: ignore[import-untyped]

    config, auto = config_of("mixtral", {}), transformers.AutoModelForCausalLM
    real = auto.from_config(config)  # type: ignore[no-untyped-call] # DeepSpeed tells parameters apart by their memory
    found = shapes.parameters(shapes.architecture(as_file(config, tmp_path)))
    assert (shapes.count(found), shapes.largest_module(found)) == model_to_params(real)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({}, "hidden_size"),
        ({**SMALL, "hidden_size": "4096"}, "hidden_size"),
        ({**SMALL, "num_hidden_layers": 0}, "num_hidden_layers"),
        ({**SMALL, "num_key_value_heads": -1}, "num_key_value_heads"),
        ({**SMALL, "model_type": "qwen3_moe", "num_experts": 2.5}, "num_experts"),
    ],
)
def test_a_config_without_sizes(config: dict[str, Any], key: str) -> None:
    with pytest.raises(shapes.ShapeError, match=f"`{key}`"):
        shapes.architecture(config)
