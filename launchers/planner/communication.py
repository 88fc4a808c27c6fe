"""Bytes that one GPU sends and receives for an optimizer step, and an estimate of the seconds.

Volumes are the ZeRO paper's (arXiv 1910.02054, section 7) with Ψ parameters: DDP, ZeRO-1 and ZeRO-2 2Ψ (a
reduce-scatter and an all-gather), ZeRO-3 3Ψ (two gathers of the weights, a reduce-scatter). Only what is trained has
gradients; the weights that ZeRO-3 gathers are all. With k accumulated micro-batches DDP and ZeRO-1 reduce once, ZeRO-2
reduces k times, ZeRO-3 does all of it k times.
"""

from __future__ import annotations

from typing import NamedTuple

from . import memory
from .memory import Setup


class Volume(NamedTuple):
    """Bytes of one GPU for an optimizer step."""

    network: float  # to the other GPUs
    host: float  # to and from host memory, for what is offloaded


class Bandwidths(NamedTuple):
    """Bytes a second: of one GPU within its node, of one node to the others, of one GPU to its host."""

    gpu: float | None
    network: float | None
    host: float | None


def volume(setup: Setup) -> Volume:
    """The bytes of one optimizer step."""
    trained, repeats = setup.tuning.trained * setup.precision.gradients, setup.accumulation
    whole = memory.gathered_weights(setup)
    if setup.gpus == 1:
        network = 0.0
    elif setup.zero == 3:
        network = repeats * (2 * whole + trained)
    else:
        network = trained * (repeats + 1 if setup.zero == 2 else 2)
    host = 0.0
    if setup.offload != "none":  # gradients go to the host, weights come back
        host += trained / setup.gpus * (1 + (repeats if setup.zero > 1 else 1))
    if setup.offload == "optimizer+param":
        host += repeats * 2 * whole / setup.gpus
    return Volume(network, host)


def seconds(setup: Setup, speeds: Bandwidths) -> float | None:
    """At full bandwidth, nothing hidden behind computing; None where a bandwidth that it takes is not known.

    Over several nodes a ring passes each node's link once with the whole volume.
    """
    moved, total = volume(setup), 0.0
    link = speeds.network if setup.nnodes > 1 else speeds.gpu
    for size, speed in ((moved.network, link), (moved.host, speeds.host)):
        if size and speed is None:
            return None
        total += size / speed if speed else 0
    return total
