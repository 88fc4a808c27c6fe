"""What a checkpoint takes, and how often to save: from shapes, the storage's bandwidth, and published failure rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .memory import Setup

#: Mean seconds between two failures of a node. Llama 3 (arXiv:2407.21783, section 3.3.4): 419 unexpected interruptions
#: of 2,048 nodes in 54 days.
NODE_MTBF = 2048 * 54 * 86400 / 419


@dataclass(frozen=True)
class Saves:
    """size: bytes of a checkpoint. seconds: that a save takes, None if the bandwidth is not known; mtbf: of the job."""

    size: int
    seconds: float | None
    mtbf: float

    @property
    def interval(self) -> float | None:
        """The best seconds of training between two saves."""
        return None if self.seconds is None else best_interval(self.seconds, self.mtbf)


def of(setup: Setup, bandwidth: float | None, *, only_model: bool = False) -> Saves:
    """The saves of a job. bandwidth: of the storage, in bytes a second. only_model: without optimizer."""
    size = checkpoint_bytes(setup, only_model=only_model)
    return Saves(size, bandwidth and size / bandwidth, NODE_MTBF / setup.nnodes)


def checkpoint_bytes(setup: Setup, *, only_model: bool = False) -> int:
    """Weights as they are saved (of an adapter its own), again in DeepSpeed's file under ZeRO-1 and 2, and the states.

    `train.outputs.space` says the same of the model in memory, before the training.
    """
    weights = setup.tuning.trained * setup.precision.weights
    if only_model:
        return weights
    return weights * (2 if setup.zero in (1, 2) else 1) + setup.tuning.trained * setup.precision.optimizer


def best_interval(save: float, mtbf: float) -> float:
    """Young's and Daly's first-order optimum in seconds, √(2 · save · MTBF). See `bench.simulation`."""
    return math.sqrt(2 * save * mtbf)
