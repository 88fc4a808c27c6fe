"""DeepSpeed on our process group."""

from __future__ import annotations

import importlib
import os
import platform
from typing import Any

import torch.distributed as dist

from ..errors import UserError
from . import compile_lock


def join(zero: dict[str, Any], *, cuda: bool) -> None:
    """Make DeepSpeed use our process group; on its own it would assume a world size of 1 under ZeRO-3.

    Raises UserError if it is to offload to NVMe and cannot.
    """
    if not cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
        # DeepSpeed would first compile its shared-memory collectives for CPU: a minute, and each node needs a compiler.
        ops: Any = importlib.import_module("deepspeed.ops")
        ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed: Any = importlib.import_module("deepspeed")
    compile_lock.use()
    deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False)
    sections = [zero.get("zero_optimization", {}).get(key) or {} for key in ("offload_optimizer", "offload_param")]
    if any(section.get("device") == "nvme" for section in sections):
        builders: Any = importlib.import_module("deepspeed.ops.op_builder")
        if not builders.AsyncIOBuilder().is_compatible():
            raise UserError(
                f"deepspeed: offload to nvme needs libaio with its headers, and {platform.node()} has none. Install it "
                "there (libaio-dev), or offload to the cpu.",
                everywhere=True,
            )
