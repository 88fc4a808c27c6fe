"""Model states: weights, gradients and optimizer states in bytes, by precision and ZeRO stage.

Sources: the ZeRO paper (arXiv 1910.02054, sections 3 and 5), and DeepSpeed's own estimators
(deepspeed.runtime.zero.stage_1_and_2 and .stage3, `estimate_zero{2,3}_model_states_mem_needs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Offload = Literal["none", "optimizer", "optimizer+param"]


@dataclass(frozen=True)
class Precision:
    """Bytes for each trained parameter."""

    name: str
    weights: int
    gradients: int
    optimizer: int  # fp32 master weights, if any, and Adam's moments
    meaning: str

    @property
    def total(self) -> int:
        """Bytes a parameter without sharding."""
        return self.weights + self.gradients + self.optimizer


MIXED = Precision("mixed", 2, 2, 12, "16-bit weights and gradients, fp32 master and Adam moments (the ZeRO paper)")
PURE_BF16 = Precision("pure-bf16", 2, 2, 4, "all in bf16, no fp32 master (the documents' 32B table)")
AUTOCAST = Precision("autocast", 4, 4, 8, "fp32 weights, gradients and moments, 16-bit copies while computing")
FP32 = Precision("fp32", 4, 4, 8, "fp32 throughout")
#: The choices of `--precision`; by default the precision that the entrypoint uses.
NAMED = {precision.name: precision for precision in (MIXED, PURE_BF16)}


class States(NamedTuple):
    """Bytes of model states on one GPU."""

    weights: float
    gradients: float
    optimizer: float


def sharded(parameters: float, precision: Precision, stage: int, gpus: int, offload: Offload = "none") -> States:
    """ZeRO stage 1 shards the optimizer states over the GPUs, stage 2 also the gradients, stage 3 also the weights.

    With optimizer offload the states are in host memory, and from stage 2 on the gradients move there too as they are
    reduced; DeepSpeed's estimators count it the same way.
    """
    weights = parameters * precision.weights / (gpus if stage >= 3 else 1)
    gradients = parameters * precision.gradients / (gpus if stage >= 2 else 1)
    optimizer = parameters * precision.optimizer / (gpus if stage >= 1 else 1)
    if offload != "none":
        optimizer = 0.0
        gradients = gradients if stage == 1 else 0.0
    if offload == "optimizer+param":
        weights = 0.0
    return States(weights, gradients, optimizer)


class Estimate(NamedTuple):
    """DeepSpeed's estimate of the model states in bytes: on one GPU, and in one host's memory."""

    gpu: float
    host: float


#: DeepSpeed's allowance for buffers in host memory (`additional_buffer_factor`).
HOST_FACTOR = 1.5


def deepspeed_estimate(
    parameters: int, largest: int, stage: int, *, nodes: int, gpus: int, offload: Offload
) -> Estimate:
    """DeepSpeed's estimators for stages 2 and 3 (stage 1 has none); at stage 3 with weights that are created sharded.

    largest: parameters of the largest module; gpus: in each node.
    """
    world = nodes * gpus
    if stage == 2:
        if offload == "none":
            return Estimate(2 * parameters + 18 * parameters / world, 4 * parameters * gpus * HOST_FACTOR)
        return Estimate(2 * parameters, parameters * max(4 * world, 16) * HOST_FACTOR)
    if offload == "none":
        return Estimate(4 * largest + 18 * parameters / world, 4 * largest * gpus * HOST_FACTOR)
    if offload == "optimizer":
        return Estimate(4 * largest + 2 * parameters / world, 16 * parameters * HOST_FACTOR / nodes)
    return Estimate(4 * largest, 18 * parameters * HOST_FACTOR / nodes)
