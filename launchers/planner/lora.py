"""How many parameters a LoRA adapter trains, from the shapes of the layers that it is put on (PEFT's LoraConfig)."""

from __future__ import annotations

import math

from alignlaunch.train.config import Lora

from .architecture.families import Family
from .architecture.shapes import Parameters, Shape

#: What PEFT's `all-linear` passes over, beside everything that is no linear layer.
_NOT_LINEAR = ("embed", "wte", "wpe", "norm", ".ln_", "layernorm")
_HEADS = ("lm_head", "score", "embed_out")
#: A mixture's experts are one tensor each, and its router has a class of its own: no linear layers.
_MIXTURE = (".experts.", ".mlp.gate", ".block_sparse_moe.gate")
_VISION = ("vision", "visual", "image", "projector", "connector")


def linear_layers(parameters: Parameters) -> dict[str, Shape]:
    """module → shape of its weight: each linear layer of the language model but the output or score head."""
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
    """module → shape of the layers that get an adapter: `all`, or those whose name ends with one of the names."""
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
    """r × (in + out) for each target; DoRA: also a magnitude for each output; a score head is trained whole.

    Where `all` reaches a mixture's experts they have r for each expert, the fused gate and up projection twice that,
    and PEFT passes over the MLPs of layers without experts.
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
