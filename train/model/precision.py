"""The training precision: what the job asks for, as far as the device supports it (bf16, else fp16, else fp32)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Precision = Literal["bf16", "fp16", "fp32"]
#: Environment variable by which tests make a CPU train in bf16, to run autocast and bf16 base models without a GPU.
BF16_ON_CPU = "ALIGNLAUNCH_BF16_ON_CPU"


def choose(train: Mapping[str, Any], *, cuda: bool, bf16_supported: bool) -> tuple[Precision, str]:
    """Decide the training precision. Returns it and a sentence that says why.

    train: the job's `train:`. The default is bf16, as in TRL's configs; `bf16: false` without `fp16` means fp32.
    bf16_supported: True for a CPU only where tests ask for it (`BF16_ON_CPU`), as bf16 is slow there.
    """
    half: Precision = "fp16" if train.get("fp16") else "bf16"
    wanted: Precision = "fp32" if half == "bf16" and train.get("bf16") is False else half
    can = wanted == "fp32" or (wanted == "bf16" and bf16_supported) or (wanted == "fp16" and cuda)
    if not can and not cuda:
        return "fp32", f"{wanted} was asked for; there is no GPU here, training in fp32"
    if not can:
        return "fp16", "bf16 was asked for; this GPU does not support it, training in fp16"
    return wanted, f"training in {wanted}"
