"""bf16, else fp16, else fp32: what the job asks for, as far as the device can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Precision = Literal["bf16", "fp16", "fp32"]


def choose(train: Mapping[str, Any], *, cuda: bool, bf16_supported: bool) -> tuple[Precision, str]:
    """Decide the training precision and say why.

    A job that says nothing wants bf16, as TRL's configs do; `bf16: false` (without `fp16`) wants fp32.
    """
    half: Precision = "fp16" if train.get("fp16") else "bf16"
    wanted: Precision = "fp32" if half == "bf16" and train.get("bf16") is False else half
    if wanted != "fp32" and not cuda:
        return "fp32", f"{wanted} was asked for; there is no GPU here, training in fp32"
    if wanted == "bf16" and not bf16_supported:
        return "fp16", "bf16 was asked for; this GPU cannot, training in fp16"
    return wanted, f"training in {wanted}"
