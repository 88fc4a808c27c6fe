"""The GPUs of this node, as nvidia-smi lists them: without torch, and without allocating memory on them."""

from __future__ import annotations

import os
import subprocess
from typing import NamedTuple

_FIELDS = "name,memory.total,memory.free,compute_cap,driver_version"
#: The compute capability from which a GPU supports bf16 (Ampere).
_BF16 = 8.0


class Gpu(NamedTuple):
    """One GPU that this job may use."""

    name: str
    memory_gib: float
    free_gib: float
    bf16: bool
    driver: str


def visible() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES allows; empty if there are none, or nvidia-smi fails."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None and allowed.strip() in ("", "-1"):
        return []
    command = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command + ([f"--id={allowed}"] if allowed else []), capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [_gpu(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []


def _gpu(line: str) -> Gpu:
    name, total, free, capability, driver = (part.strip() for part in line.split(","))
    return Gpu(name, _gib(total), _gib(free), _number(capability) >= _BF16, driver)


def _gib(mebibytes: str) -> float:
    return _number(mebibytes) / 1024


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # some devices report "[N/A]"
        return 0.0
