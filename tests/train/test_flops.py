"""MFU's two halves: a step's arithmetic and the device's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from alignlaunch.train import flops


def llama(*, tied: bool) -> Any:
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    make: Any = AutoModelForCausalLM
    return make.from_config(config)


def qwen3() -> Any:
    """Heads of 32 where the hidden size over their number is 8, as Qwen3-0.6B has 128 where that is 64."""
    config = Qwen3Config(
        vocab_size=100,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
    )
    make: Any = AutoModelForCausalLM
    return make.from_config(config)


def counted(model: Any, length: int) -> float:
    """torch's own count of a forward and backward over one sequence, per token; it sees the whole attention square."""
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.arange(length)[None] % 100
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return float(counter.get_total_flops() / length)


@pytest.mark.parametrize("make", [partial(llama, tied=True), partial(llama, tied=False), qwen3])
def test_every_weight_trained_as_torch_counts_it(make: Callable[[], Any]) -> None:
    model = make()
    model.set_attn_implementation("eager")
    assert flops.per_token(model, 64) == pytest.approx(counted(model, 64), rel=0.02)


def test_frozen_weights_have_no_gradient_to_compute() -> None:
    model = llama(tied=False)
    whole = flops.per_token(model, 64)
    model.requires_grad_(False)
    assert whole is not None
    attention = 12 * 2 * 16 * 64
    assert flops.per_token(model, 64) == pytest.approx((whole - attention) * 4 / 6 + attention)


def test_a_mixture_of_experts_is_not_guessed_at() -> None:
    model = llama(tied=True)
    model.config.num_local_experts = 8
    assert flops.per_token(model, 64) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        *(("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H20", 148e12)),
        *(("NVIDIA H200", 989e12), ("NVIDIA A100-SXM4-40GB", 312e12), ("NVIDIA GeForce RTX 4090", 165e12)),
        # As Slurm's GRES name them.
        *(("h100", 989e12), ("nvidia_h100_pcie", 756e12), ("a100-sxm4-80gb", 312e12), ("rtx4090", 165e12)),
        *(("l4", 121e12), ("l40s", 362e12)),
    ],
)
def test_the_device_by_its_own_name(name: str, peak: float) -> None:
    assert flops.peak(name) == peak


def test_an_unknown_device_has_no_peak() -> None:
    assert flops.peak("Abacus 3000") is None


@pytest.mark.parametrize("name", ["NVIDIA A100-SXM4-40GB MIG 1g.5gb", "h100_3g.40gb"])
def test_a_part_of_a_device_has_not_the_whole_peak(name: str) -> None:
    assert flops.peak(name) is None
