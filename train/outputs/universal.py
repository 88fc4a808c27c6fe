"""A checkpoint of ZeRO-1 or 2 for another number of processes, or the other of the two, by DeepSpeed's own converter.

For which it holds, docs/resuming.md shows with figures; all else is refused. No torch here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError
from .checkpoints import ASIDE

#: The converter knows Adam's two moments by name, and no other state.
_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
_LAST_WORDS = 300


def fault(files: set[str], args: Any, stage: int) -> str:
    """Why a checkpoint cannot be converted for this run; "" if it can. files: its `zero_files`. stage: of this run."""
    if not files or not stage:
        return "DDP and ZeRO keep the optimizer's state in different forms"
    if stage == 3 or any(name.endswith("_model_states.pt") for name in files):
        return "with ZeRO-3 DeepSpeed's universal checkpoint trains on wrongly"
    optimizer = str(getattr(args.optim, "value", args.optim))
    if optimizer not in _OPTIMIZERS:
        return f"DeepSpeed converts the state of AdamW alone, and train.optim is {optimizer}"
    if args.load_best_model_at_end:
        return "train.load_best_model_at_end would load another checkpoint in the same way"
    if args.fp16 or "offload_optimizer" in args.deepspeed_plugin.deepspeed_config["zero_optimization"]:
        return "with fp16 or offload it has not been tried"
    return ""


def convert(checkpoint: Path, output_dir: Path) -> Path:
    """Convert a checkpoint. Returns a folder with all that is in it, and its universal form. Raises UserError."""
    folder = output_dir / ASIDE / "universal" / checkpoint.name
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in checkpoint.iterdir():
            (folder / path.name).symlink_to(path.resolve())
        (state,) = folder.glob("global_step*")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: cannot be made: {error}") from error
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(state), "--output_folder", f"{state}_universal"]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join(done.stderr.split())[-_LAST_WORDS:]
        raise UserError(f"{checkpoint}: DeepSpeed's converter ended with {done.returncode}: {words}")
    return folder


def forget(folder: Path) -> None:
    """Remove the universal form once it is loaded. The rest is small, and some of it is read later."""
    for path in folder.glob("*_universal"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def load_with(args: Any) -> None:
    """Have DeepSpeed load the universal form."""
    config = args.deepspeed_plugin.deepspeed_config
    config["checkpoint"] = config.get("checkpoint", {}) | {"load_universal": True}
