"""An estimate of training speed: from the share of a GPU's peak (MFU) that others have measured in such training.

    tokens a second and GPU = MFU x peak FLOP/s / FLOPs of a token

FLOPs as `train/flops.py` counts them, with which a run reports its own MFU.
"""

from __future__ import annotations

from typing import NamedTuple

from alignlaunch.train import flops

from .memory import Setup

Band = tuple[float, float]


class Measured(NamedTuple):
    """MFU that others have measured, the lowest and the highest, and who."""

    mfu: Band
    source: str


#: Whole sequences. Tokens a second and GPU are as published, and their MFU is counted anew by our formula: torchtitan's
#: 6,667 of Llama-3.1-8B at 8,192 on 500 W H100, NeMo Automodel's 12,473 of it and 14,110 of Qwen2.5-7B (LoRA, 4,096,
#: H100), KempnerForge's 10,471 of 8B (H200; taken to be at 4,096).
SEQUENCES = Measured(
    (0.39, 0.54), "torchtitan, NeMo Automodel and KempnerForge on models of 7 to 8 billion parameters on H100 and H200"
)
#: Pairs: 22.5 % as published by the one measurement that there is (7B, DPO at 16k, packed, compiled), and at most what
#: whole sequences reach at least, since what a reference model or a second answer costs is not counted.
PAIRS = Measured((0.225, 0.39), "open-instruct's 7B DPO (open-instruct#1466), and torchtitan's 8B as the most")


class Speed(NamedTuple):
    """tokens: a second and GPU, every sequence at full length. Bands from the lowest to the highest."""

    mfu: Band
    tokens: Band
    source: str

    def hours(self, tokens: int, gpus: int) -> Band:
        """How long so many tokens take on so many GPUs."""
        slow, fast = (tokens / (each * gpus) / 3600 for each in self.tokens)
        return fast, slow


def of(setup: Setup, gpu: str) -> Speed | None:
    """The speed of a setup on a GPU of this type; None where nothing was measured that it could be compared with.

    That is an unknown GPU, a mixture of experts, a vision tower, quantised weights, fp32, and what is offloaded.
    """
    peak, each = flops.peak(gpu), _flops_per_token(setup)
    if peak is None or each is None:
        return None
    found = PAIRS if setup.sequences_per_sample > 1 else SEQUENCES
    low, high = (mfu * peak / each for mfu in found.mfu)
    return Speed(found.mfu, (low, high), found.source)


def _flops_per_token(setup: Setup) -> float | None:
    tuning, arch = setup.tuning, setup.tuning.model.architecture
    unlike = tuning.quantization != "none" or setup.offload != "none" or not setup.half
    if unlike or tuning.in_experts or isinstance(arch.config.get("text_config"), dict):
        return None
    table = 0 if arch.tied else arch.vocab * arch.hidden  # a tied table is multiplied as the head
    base = tuning.count - table
    trained, frozen = (base, 0) if tuning.lora is None else (tuning.trained, base)
    return flops.counted(trained, frozen, arch.layers, arch.query_width, setup.length)
