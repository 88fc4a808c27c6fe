"""How many parameters a LoRA adapter trains, from the shapes of the layers that it is put on (PEFT's LoraConfig)."""

from __future__ import annotations

import math

from alignlaunch.train.config import Lora

from .shapes import Parameters, Shape

#: What PEFT's `all-linear` passes over, beside everything that is no linear layer.
_NOT_LINEAR = ("embed", "wte", "wpe", "norm", ".ln_", "layernorm")
_HEADS = ("lm_head", "score", "embed_out")
#: A mixture's experts are one tensor each, and its router has a class of its own: no linear layers.
_MIXTURE = (".experts.", ".mlp.gate", ".block_sparse_moe.gate")
_VISION = ("vision", "visual", "image", "projector", "connector")


def linear_layers(parameters: Parameters) -> dict[str, Shape]:
    """module → shape of its weight: each linear layer of the language model but the output or score head."""
    found = {}
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


def trainable(parameters: Parameters, lora: Lora) -> int:
    """r × (in + out) for each target; DoRA: also a magnitude for each output; a score head is trained whole."""
    total = 0
    for module, shape in targets(parameters, lora).items():
        # The head of a mixture's shared expert has one output, and GPT-2's layers are transposed: in + out is the same.
        total += lora.r * sum(shape)
        if lora.dora:
            transposed = module.startswith("transformer.h.")
            total += shape[1] if transposed else shape[0]
    return total + math.prod(parameters.get("score.weight", (0,)))
