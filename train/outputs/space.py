"""Whether the checkpoints of a run fit on the disk of its output folder, found out before training and not after."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..model.loading import zero_stage
from ..reporting import say
from .checkpoints import folders

_GIB = 2**30
#: Bytes of optimizer state for each trained parameter: Adam's two moments in fp32, or their quantised forms.
_ADAM, _EIGHT_BIT = 8, 2
#: fp32 copies of the weights, which DeepSpeed saves with the moments.
_MASTER = 4


def checkpoint_bytes(model: Any, args: Any, share: float = 1) -> int:
    """About how many bytes a checkpoint takes, of all ranks together. share: of the optimizer state, what counts.

    The weights as they are saved (of an adapter its own alone), again in DeepSpeed's file under ZeRO-1 and 2, and the
    optimizer state. An optimizer that is not of Adam's kind counts as none: then it is a lower bound.
    """
    parameters = list(model.parameters())
    adapted = hasattr(model, "peft_config")
    trained = sum(_numel(p) for p in parameters if p.requires_grad)
    weights = sum(_numel(p) * int(p.element_size()) for p in parameters if p.requires_grad or not adapted)
    if args.save_only_model:
        return weights
    stage, optimizer = zero_stage(args), str(getattr(args.optim, "value", args.optim))
    moments = (_EIGHT_BIT if "8bit" in optimizer else _ADAM) if "adam" in optimizer else 0
    state = trained * (moments + (_MASTER if stage and moments else 0))
    return weights * (2 if stage in (1, 2) else 1) + int(state * share)


def require(model: Any, args: Any) -> None:
    """Raise UserError if not one checkpoint fits into the output folder's disk; report it if those to keep do not."""
    if str(getattr(args.save_strategy, "value", args.save_strategy)) == "no":
        return
    output_dir, each = Path(args.output_dir), checkpoint_bytes(model, args)
    there = sum(path.stat().st_size for folder in folders(output_dir) for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(output_dir).free
    found = f"output_dir: {output_dir}: {free / _GIB:.2f} GiB are free"
    if free < each:
        raise UserError(
            f"{found}, and a checkpoint takes about {each / _GIB:.2f} GiB. Make room, name another folder, or train an "
            "adapter (`lora`).",
            everywhere=True,
        )
    # The oldest goes only when the newest is complete.
    wanted = ((args.save_total_limit or 1) + 1) * each
    if free + there < wanted:
        say(f"{found}; checkpoints will take about {wanted / _GIB:.2f} GiB at a time")


def _numel(parameter: Any) -> int:
    """All elements of a parameter, of which this rank may hold a shard (ZeRO-3)."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
