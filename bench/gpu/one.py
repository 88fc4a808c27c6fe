"""One run: a stage, a side. It is a process of its own, because a GPU's peak and an out-of-memory are a process's."""

from __future__ import annotations

import platform
import subprocess
import tempfile
import warnings
from importlib.metadata import version
from typing import Any

from bench import trainers

from .shape import Shape

GIB = 2**30


def run(side: str, stage: str, shape: Shape) -> dict[str, Any]:
    """Train random weights.

    Returns {"out_of_memory_gib": peak} where the GPU has not memory enough, else
    seconds: of a step. tokens: of a step's sequences. computed: of them those that were computed, a shared prompt once.
    mfu: of the computed tokens, gradient checkpointing and reference not counted; None for a device not known.
    loss: of the first step. gib: the peak.
    """
    import torch

    try:
        return _run(side, stage, shape)
    except torch.OutOfMemoryError:
        return {"out_of_memory_gib": _peak() / GIB}


def _run(side: str, stage: str, shape: Shape) -> dict[str, Any]:
    import torch
    from tests.support.tiny import make_tokenizer

    from alignlaunch.train import flops

    warnings.simplefilter("ignore")
    model, tokenizer = build(stage, shape), make_tokenizer()
    with tempfile.TemporaryDirectory(prefix="alignlaunch-gpu-") as folder:
        settings = shape.settings() | {"output_dir": folder, "per_device_train_batch_size": batch(stage, shape)}
        trainer = trainers.make(side, stage, model, tokenizer, shape.records(stage, tokenizer), settings)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()  # building the weights may have taken more
        seconds, loss = trainers.train(trainer)
    tokens = shape.sequences * shape.length
    saved = trainer.tokens_saved() / shape.steps if side == "ours" else 0
    each = flops.per_token(trainer.accelerator.unwrap_model(trainer.model), shape.length)
    device = flops.peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return {
        "seconds": seconds,
        "tokens": tokens,
        "computed": tokens - saved,
        "mfu": each * (tokens - saved) / seconds / device if each and device else None,
        "loss": loss,
        "gib": _peak() / GIB,
    }


def batch(stage: str, shape: Shape) -> int:
    """Records in a batch."""
    return shape.sequences if stage == "sft" else shape.sequences // 2


def build(stage: str, shape: Shape) -> Any:
    """The model, its random weights made where they stay; the same ones on both sides."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto: Any = AutoModelForSequenceClassification if stage == "rm" else AutoModelForCausalLM
    torch.manual_seed(0)
    with torch.device(shape.device):
        return auto.from_config(shape.case(stage).config, dtype=torch.bfloat16 if shape.half else torch.float32)


def _peak() -> float:
    """Bytes: of this process's tensors on the GPU, without one of the whole process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def machine() -> dict[str, str]:
    """What results depend on, besides the shape."""
    import torch

    found = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    if not torch.cuda.is_available():
        return {"device": f"CPU ({platform.machine()})", "driver": "none", **found}
    memory = torch.cuda.get_device_properties(0).total_memory / GIB
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return {"device": f"{torch.cuda.get_device_name()} ({memory:.0f} GiB)", "driver": driver, **found}
