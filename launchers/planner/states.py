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
    """Bytes that a trained parameter takes."""

    name: str
    weights: int
    gradients: int
    optimizer: int  # master weights and moments
    meaning: str

    @property
    def total(self) -> int:
        """Unsharded, in bytes a parameter."""
        return self.weights + self.gradients + self.optimizer


MIXED = Precision("mixed", 2, 2, 12, "16-bit weights and gradients, fp32 master and Adam moments (the ZeRO paper)")
PURE_BF16 = Precision("pure-bf16", 2, 2, 4, "all in bf16, no fp32 master (the documents' 32B table)")
AUTOCAST = Precision("autocast", 4, 4, 8, "fp32 weights, gradients and moments, 16-bit copies while computing")
FP32 = Precision("fp32", 4, 4, 8, "fp32 throughout")
#: What `--precision` may name; by default the entrypoint's own is taken.
NAMED = {precision.name: precision for precision in (MIXED, PURE_BF16)}


class States(NamedTuple):
    """Bytes on one GPU."""

    weights: float
    gradients: float
    optimizer: float


def sharded(parameters: float, precision: Precision, stage: int, gpus: int, offload: Offload = "none") -> States:
    """Stage 1 divides the optimizer states by the GPUs, 2 the gradients as well, 3 the weights as well.

    With the optimizer offloaded its states leave the GPU, and from stage 2 on the gradients follow them to the host as
    they are reduced, as DeepSpeed's estimators count it.
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
    """DeepSpeed's estimate of model states in bytes: of one GPU, and of one host's memory."""

    gpu: float
    host: float


#: DeepSpeed's allowance for buffers on the host.
HOST_FACTOR = 1.5


def deepspeed_estimate(
    parameters: int, largest: int, stage: int, *, nodes: int, gpus: int, offload: Offload
) -> Estimate:
    """DeepSpeed's estimators for stages 2 and 3 (there is none for 1), weights created sharded at stage 3.

    largest: parameters of the largest module; gpus: of one node.
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
