"""Which part of a model is trained: all of it, or a LoRA adapter on a frozen, possibly quantised base."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from alignlaunch.train.config import Lora

from . import lora as adapters
from .architecture.model import Model

Quantization = Literal["none", "8bit", "4bit"]


class Adapted(NamedTuple):
    """How many linear layers in one decoder layer have an adapter, by their input."""

    on_input: int  # query, key and value projections
    on_output: int  # attention's output projection
    on_mlp_input: int  # gate and up projections
    on_mlp_output: int  # down projection


@dataclass(frozen=True, eq=False)
class Tuning:
    """A model and its trained part. Many setups share one object, so its cached counts are computed once."""

    model: Model
    lora: Lora | None
    quantization: Quantization

    @property
    def name(self) -> str:
        """`full`, `LoRA` or `QLoRA`."""
        return "full" if self.lora is None else "LoRA" if self.quantization == "none" else "QLoRA"

    @cached_property
    def count(self) -> int:
        """Parameters of the model."""
        return self.model.count

    @cached_property
    def largest_module(self) -> int:
        """Parameters of the largest module."""
        return self.model.largest_module

    @cached_property
    def trained(self) -> int:
        """Trained parameters: those that get gradients."""
        if self.lora is None:
            return self.count
        return adapters.trainable(self.model.parameters, self.lora, self.model.architecture.family)

    @cached_property
    def linear(self) -> int:
        """Parameters in linear layers, without the output or score head."""
        return sum(map(math.prod, adapters.linear_layers(self.model.parameters).values()))

    @cached_property
    def in_experts(self) -> int:
        """Parameters of all experts in a mixture-of-experts model."""
        return sum(math.prod(shape) for name, shape in self.model.parameters.items() if ".experts." in name)

    @cached_property
    def adapted(self) -> Adapted:
        """The adapters of the first decoder layer."""
        if self.lora is None:
            return Adapted(0, 0, 0, 0)
        family = self.model.architecture.family
        targets = adapters.targets(self.model.parameters, self.lora)
        places = [name.rpartition(".") for name in targets if ".0." in name]
        attention = [leaf for parent, _, leaf in places if parent.endswith(family.attention)]
        mlp = [leaf for parent, _, leaf in places if not parent.endswith(family.attention)]
        return Adapted(
            on_input=sum(leaf in family.qkv for leaf in attention),
            on_output=sum(leaf == family.output for leaf in attention),
            on_mlp_input=sum(leaf in family.gate_up for leaf in mlp),
            on_mlp_output=sum(leaf == family.down for leaf in mlp),
        )
