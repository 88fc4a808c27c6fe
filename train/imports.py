"""Keeping optional packages that a job does not need from being imported. No torch here.

If they are installed, transformers' Trainer imports PEFT; PEFT imports bitsandbytes, which compiles a function and so
loads torch's inductor; accelerate imports DeepSpeed to check whether a model is one of its engines; TRL's trainers
import W&B. That costs CPU seconds in every process of every run (docs/startup.md). All of these imports are optional
to the importing package, so here they fail unless the job needs them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from . import trained_folder
from .config import TrainConfig

#: Transformers' names of optimizers from bitsandbytes; adamw_torch_8bit is torchao's.
_BITSANDBYTES_OPTIMIZER = re.compile("(?!adamw_torch).*(8bit|32bit|bnb|paged|ademamix)")


def keep_out(names: list[str]) -> None:
    """Make imports of these packages fail as if they were not installed. Packages imported already stay."""
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None makes `import` raise ModuleNotFoundError


def unneeded(job: TrainConfig, *, deepspeed: bool) -> list[str]:
    """The optional packages that this job does not need."""
    # safe_dpo also loads reward models, which may be adapters or quantised.
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
    """Whether `train.report_to`, one name or a list, includes W&B."""
    asked = job.train.get("report_to") or []
    return any(name in ([asked] if isinstance(asked, str) else asked) for name in ("wandb", "all"))


def has_bitsandbytes_optimizer(job: TrainConfig) -> bool:
    """Whether `train.optim` is one of bitsandbytes' optimizers."""
    return bool(_BITSANDBYTES_OPTIMIZER.match(str(job.train.get("optim", ""))))


def needs_peft(model: str) -> bool:
    """Whether a job's model is an adapter, which is merged before training."""
    return trained_folder.kind(Path(model)) == "adapter"


def _may_be_quantized(model: str) -> bool:
    """Whether the model's weights may be quantised; True for a hub id or an adapter, whose config is not known yet."""
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return "quantization_config" in config
