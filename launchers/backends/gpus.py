"""The GPUs of this machine, as nvidia-smi lists them: without torch."""

from __future__ import annotations

import os
import re
import subprocess
from typing import NamedTuple


class Gpus(NamedTuple):
    """How many there are and who says so. trouble: why nvidia-smi could not say it; "" also where there is none."""

    number: int
    source: str
    trouble: str = ""


def here(seconds: float = 30) -> Gpus:
    """The GPUs that CUDA_VISIBLE_DEVICES allows, or else those that nvidia-smi lists in time; 0 without a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return Gpus(
            len([part for part in visible.split(",") if part.strip() not in ("", "-1")]), "CUDA_VISIBLE_DEVICES"
        )
    command = ["nvidia-smi", "-L"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds)
    except FileNotFoundError:
        return Gpus(0, "")
    except OSError as error:
        return Gpus(0, "", f"nvidia-smi: {error.strerror}")
    except subprocess.TimeoutExpired:
        return Gpus(0, "", f"nvidia-smi: no answer in {seconds:g} s")
    # The parts of a GPU (MIG) stand below it, indented.
    found = re.findall(r"^GPU \d+:", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        said = (done.stdout + done.stderr).split("\n", 1)[0].strip()
        return Gpus(0, "", f"nvidia-smi: {said or f'exit code {done.returncode}'}")
    return Gpus(len(found), "nvidia-smi")
