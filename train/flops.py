"""FLOPs of a training step and peak FLOP/s of a device, for model FLOPs utilisation (PaLM, arXiv 2204.02311, B)."""

from __future__ import annotations

import re
from typing import Any

#: Dense bf16 FLOP/s of one device by a part of its name, specific names first (NVIDIA's data sheets, without sparsity).
PEAKS = {
    "B200": 2250e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "H800": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "V100": 125e12,
}


def peak(device_name: str) -> float | None:
    """Dense bf16 (V100: fp16) peak FLOP/s of one device; None if it is not in the table, or only a part of one (MIG).

    device_name: as CUDA has it ("NVIDIA H100 80GB HBM3") or as Slurm's GRES do ("h100", "nvidia_h100_pcie").
    """
    if re.search(r"\d+g\.\d+gb", device_name, re.IGNORECASE):
        return None
    plain = _plain(device_name)
    return next((flops for name, flops in PEAKS.items() if _plain(name) in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def per_token(model: Any, sequence_length: float) -> float | None:
    """FLOPs of forward and backward for one token of a sequence of this length (in tokens).

        6 N + 12 L H Q T    all weights trained
        4 N + 12 L H Q T    weights frozen (with an adapter): their gradients are not computed

    N: weights that take part in a matrix product, so without the embedding table; L layers, H heads of size Q, T tokens
    of the sequence. Recomputation by gradient checkpointing is not counted, nor is a reference model. None for a
    mixture of experts, whose number of active weights is not known here.
    """
    config = model.config.get_text_config()
    if getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None):
        return None
    table = model.get_input_embeddings().weight
    frozen = trained = 0
    for weight in model.parameters():
        if weight is not table or config.tie_word_embeddings:  # a tied table is multiplied as the head
            count = _size(weight)
            trained, frozen = (trained + count, frozen) if weight.requires_grad else (trained, frozen + count)
    heads = config.num_attention_heads
    # Q is not always hidden_size / H: in Qwen3-0.6B it is twice that.
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return counted(trained, frozen, config.num_hidden_layers, width, sequence_length)


def counted(trained: int, frozen: int, layers: int, width: int, sequence_length: float) -> float:
    """The same from the numbers of trained and frozen weights in matrix products. width: H Q."""
    return float(6 * trained + 4 * frozen + 12 * layers * width * sequence_length)


def _size(weight: Any) -> int:
    """Elements of a weight, also if ZeRO-3 holds only a shard of it, or bitsandbytes packs two into each byte."""
    packed = 2 if type(weight).__name__ == "Params4bit" else 1
    return int(getattr(weight, "ds_numel", weight.numel())) * packed
