"""bf16, else fp16, else fp32: what the job asks for, as far as the device can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Precision = Literal["bf16", "fp16", "fp32"]
#: Variable by which tests have a CPU train in bf16, so that autocast and bf16 bases run at all where there is no GPU.
BF16_ON_CPU = "ALIGNLAUNCH_BF16_ON_CPU"


def choose(train: Mapping[str, Any], *, cuda: bool, bf16_supported: bool) -> tuple[Precision, str]:
    """Decide the training precision and say why.

    A job that says nothing wants bf16, as TRL's configs do; `bf16: false` (without `fp16`) wants fp32.
    bf16_supported: a CPU can bf16 too, but slowly: it is said to only where the tests want that path (`BF16_ON_CPU`).
    """
    half: Precision = "fp16" if train.get("fp16") else "bf16"
    wanted: Precision = "fp32" if half == "bf16" and train.get("bf16") is False else half
    can = wanted == "fp32" or (wanted == "bf16" and bf16_supported) or (wanted == "fp16" and cuda)
    if not can and not cuda:
        return "fp32", f"{wanted} was asked for; there is no GPU here, training in fp32"
    if not can:
        return "fp16", "bf16 was asked for; this GPU cannot, training in fp16"
    return wanted, f"training in {wanted}"
