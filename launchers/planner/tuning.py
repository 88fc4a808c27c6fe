"""What of a model is trained: all of it, or an adapter on a frozen base, which may be quantised."""

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
    """How many linear layers of one decoder layer have an adapter, by what they read."""

    on_input: int  # the attention's input
    on_output: int  # the attention's result
    on_mlp_input: int
    on_mlp_output: int


@dataclass(frozen=True, eq=False)
class Tuning:
    """A model and the part of it that gets gradients; many setups share one, so its figures are counted once."""

    model: Model
    lora: Lora | None
    quantization: Quantization

    @property
    def name(self) -> str:
        """full, LoRA or QLoRA."""
        return "full" if self.lora is None else "LoRA" if self.quantization == "none" else "QLoRA"

    @cached_property
    def count(self) -> int:
        """Parameters of the model."""
        return self.model.count

    @cached_property
    def largest_module(self) -> int:
        """The most parameters of one module."""
        return self.model.largest_module

    @cached_property
    def trained(self) -> int:
        """Parameters that get gradients."""
        if self.lora is None:
            return self.count
        return adapters.trainable(self.model.parameters, self.lora, self.model.architecture.family)

    @cached_property
    def linear(self) -> int:
        """Parameters in linear layers but the head's."""
        return sum(map(math.prod, adapters.linear_layers(self.model.parameters).values()))

    @cached_property
    def in_experts(self) -> int:
        """Parameters of a mixture's experts."""
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
