"""Exiting the process so that finished work is never reported as failed, and a failed rank never blocks the others."""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import Any, NoReturn

#: BAD_INPUT: another attempt would end in the same way. LOST: another one may do better.
DONE, FAILED, BAD_INPUT, LOST = 0, 1, 2, 3
#: Training stopped early and left a complete checkpoint: it can be resumed.
STOPPED_EARLY = 75
#: A rank made no progress, and `processes.watcher` ended it. Also the signal by which it did: see `processes.beats`.
HUNG = 44
#: Set by a launcher that exits with STOPPED_EARLY itself: torchrun would make 1 of it, and print a failure.
SAYS_STOPPED = "ALIGNLAUNCH_SAYS_STOPPED"


def code_of(error: BaseException) -> int:
    """The exit code for an exception that ends this process, by whether another attempt may do better."""
    if "torch" in sys.modules:
        import torch

        chain: BaseException | None = error
        while chain is not None:
            if isinstance(chain, torch.OutOfMemoryError):
                return BAD_INPUT
            # What gloo raises has no type of its own.
            if isinstance(chain, torch.distributed.DistError) or "gloo/" in str(chain):
                return LOST
            chain = chain.__cause__ or chain.__context__
    return FAILED


def record_failure(error: BaseException) -> None:
    """Print the traceback, and record it for torchrun, whose summary names the first rank that failed."""
    traceback.print_exception(error)
    if os.environ.get("TORCHELASTIC_ERROR_FILE") and "torch" in sys.modules:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)


def leave(code: int) -> NoReturn:
    """End this process now, with this exit code.

    Python's normal exit sometimes aborts after a gloo run (a gloo thread needs the GIL to free a tensor while the
    interpreter shuts down), and torchrun then reports the finished run as failed: so sleep, destroy, flush, `os._exit`.
    """
    wandb: Any = sys.modules.get("wandb")  # also None if it is kept out (`imports`)
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=code)  # os._exit skips its exit hook
    if code in (DONE, STOPPED_EARLY) and "torch" in sys.modules:
        import torch.distributed as dist

        if dist.is_initialized():
            time.sleep(0.3)  # lets gloo's threads drop their last tensors
            dist.destroy_process_group()
    # After a failure the group is not destroyed: that would wait for ranks that hang in a collective.
    leave_now(DONE if code == STOPPED_EARLY and os.environ.get(SAYS_STOPPED) else code)


def leave_now(code: int) -> NoReturn:
    """End this process from any of its threads, whatever the others do."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
