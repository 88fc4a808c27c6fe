"""Packages that a job has no use for stay out of its processes. No torch here.

Where PEFT is installed, transformers' Trainer imports it; where bitsandbytes is, PEFT imports that, which compiles a
function and so brings torch's inductor along; where DeepSpeed is, accelerate imports it to see whether a model is one
of its engines; where W&B is, TRL's trainers import it: CPU seconds of every process of every run (docs/startup.md). All
of them are optional to those who import them, and here they are not to be had unless the job needs them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from . import trained_folder
from .config import TrainConfig

#: transformers' names of the optimizers that bitsandbytes makes; torchao makes adamw_torch_8bit.
_BITSANDBYTES_OPTIMIZER = re.compile("(?!adamw_torch).*(8bit|32bit|bnb|paged|ademamix)")


def keep_out(names: list[str]) -> None:
    """Have these packages found as if they were not installed. Those imported already stay."""
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # how Python itself marks what is not there


def unneeded(job: TrainConfig, *, deepspeed: bool) -> list[str]:
    """The optional packages that this job does not need."""
    # The reward models of safe_dpo are the job's too, and may be adapters or quantised.
    peft = job.lora is not None or needs_peft(job.model) or job.stage == "safe_dpo"
    bitsandbytes = (
        job.quantization != "none"
        or has_bitsandbytes_optimizer(job)
        or _may_be_quantized(job.model)
        or job.stage == "safe_dpo"
    )
    needed = {"peft": peft, "bitsandbytes": bitsandbytes, "deepspeed": deepspeed, "wandb": reports_to_wandb(job)}
    return [name for name, is_needed in needed.items() if not is_needed]


def reports_to_wandb(job: TrainConfig) -> bool:
    """Whether `train.report_to`, a name or several, has W&B in it."""
    asked = job.train.get("report_to") or []
    return any(name in ([asked] if isinstance(asked, str) else asked) for name in ("wandb", "all"))


def has_bitsandbytes_optimizer(job: TrainConfig) -> bool:
    """Whether `train.optim` names one of bitsandbytes."""
    return bool(_BITSANDBYTES_OPTIMIZER.match(str(job.train.get("optim", ""))))


def needs_peft(model: str) -> bool:
    """Whether a job's model is an adapter, which is merged before training."""
    return trained_folder.kind(Path(model)) == "adapter"


def _may_be_quantized(model: str) -> bool:
    """Whether the weights themselves are quantised; of a model on the hub, or an adapter's base, nobody knows yet."""
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return "quantization_config" in config
