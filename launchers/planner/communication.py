"""Communication volume of one GPU in an optimizer step, and an estimate of its seconds.

Volumes follow the ZeRO paper (arXiv 1910.02054, section 7) for Ψ parameters: 2Ψ for DDP, ZeRO-1 and ZeRO-2 (one
reduce-scatter, one all-gather), 3Ψ for ZeRO-3 (two all-gathers of the weights, one reduce-scatter). Only trained
parameters have gradients to reduce, but ZeRO-3 gathers all weights. With k accumulated micro-batches DDP and ZeRO-1
reduce once, ZeRO-2 reduces k times, and ZeRO-3 repeats everything k times.
"""

from __future__ import annotations

from typing import NamedTuple

from . import memory
from .memory import Setup


class Volume(NamedTuple):
    """Bytes that one GPU moves in an optimizer step."""

    network: float  # to the other GPUs
    host: float  # to and from host memory, with offload


class Bandwidths(NamedTuple):
    """Bytes a second: from one GPU to others in its node, from one node to others, from one GPU to host memory."""

    gpu: float | None
    network: float | None
    host: float | None


def volume(setup: Setup) -> Volume:
    """The volume of one optimizer step."""
    trained, repeats = setup.tuning.trained * setup.precision.gradients, setup.accumulation
    whole = memory.gathered_weights(setup)
    if setup.gpus == 1:
        network = 0.0
    elif setup.zero == 3:
        network = repeats * (2 * whole + trained)
    else:
        network = trained * (repeats + 1 if setup.zero == 2 else 2)
    host = 0.0
    if setup.offload != "none":  # gradients go to the host, updated weights come back
        host += trained / setup.gpus * (1 + (repeats if setup.zero > 1 else 1))
    if setup.offload == "optimizer+param":
        host += repeats * 2 * whole / setup.gpus
    return Volume(network, host)


def seconds(setup: Setup, speeds: Bandwidths) -> float | None:
    """Seconds at full bandwidth, without overlap with computation; None if a bandwidth it needs is unknown.

    Over several nodes a ring collective sends one GPU's volume through each node's link once, not once for each GPU.
    """
    moved, total = volume(setup), 0.0
    link = speeds.network if setup.nnodes > 1 else speeds.gpu
    for size, speed in ((moved.network, link), (moved.host, speeds.host)):
        if size and speed is None:
            return None
        total += size / speed if speed else 0
    return total
