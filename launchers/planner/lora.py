"""Trained parameters of a LoRA adapter, from the shapes of its target layers (PEFT's LoraConfig)."""

from __future__ import annotations

import math

from alignlaunch.train.config import Lora

from .architecture.families import Family
from .architecture.shapes import Parameters, Shape

#: Name parts of modules that PEFT's `all-linear` does not target: embeddings and norms.
_NOT_LINEAR = ("embed", "wte", "wpe", "norm", ".ln_", "layernorm")
_HEADS = ("lm_head", "score", "embed_out")
#: Mixture of experts: all experts share one 3-D tensor and the router is its own class. Neither is a linear layer.
_MIXTURE = (".experts.", ".mlp.gate", ".block_sparse_moe.gate")
_VISION = ("vision", "visual", "image", "projector", "connector")


def linear_layers(parameters: Parameters) -> dict[str, Shape]:
    """{module: shape of its weight} of each linear layer of the language model, without the output or score head."""
    found: dict[str, Shape] = {}
    for name, shape in parameters.items():
        module, _, kind = name.rpartition(".")
        leaf = module.rpartition(".")[2]
        if kind != "weight" or len(shape) != 2 or leaf in _HEADS or any(part in name for part in _VISION):
            continue
        if any(part in module.lower() for part in _NOT_LINEAR) or ".experts." in name or module.endswith(_MIXTURE):
            continue
        found[module] = shape
    return found


def targets(parameters: Parameters, lora: Lora) -> dict[str, Shape]:
    """{module: shape of its weight} of the adapter's target layers: `all`, or those with one of the given suffixes."""
    layers = linear_layers(parameters)
    if lora.target_modules == "all":
        return layers
    given = lora.target_modules
    names = [part.strip() for part in given.split(",")] if isinstance(given, str) else given
    return {
        module: shape
        for module, shape in layers.items()
        if any(module == name or module.endswith(f".{name}") for name in names)
    }


def trainable(parameters: Parameters, lora: Lora, family: Family) -> int:
    """Trained parameters: r × (in + out) for each target layer. DoRA adds one magnitude for each output.

    A score head is trained in full. Where PEFT's `all-linear` includes a mixture's experts, the rank is r for each
    expert and 2r for the fused gate and up projection; PEFT then skips the MLPs of layers without experts.
    """
    on_experts = lora.target_modules == "all" and family.lora_on_experts
    total = math.prod(parameters.get("score.weight", (0,)))
    for module, shape in targets(parameters, lora).items():
        if on_experts and f".{family.mlp}." in module:
            continue
        total += lora.r * sum(shape)
        if lora.dora:
            total += shape[1 if family.transposed else 0]
    if on_experts:
        for name, shape in parameters.items():
            if ".experts." in name:
                rank = lora.r * shape[0] * (2 if name.endswith("gate_up_proj") else 1)
                total += rank * sum(shape[1:])
            elif name.endswith(".mlp.gate.weight"):
                total += lora.r * sum(shape)
    return total
