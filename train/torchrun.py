"""torchrun in a pod, with a signal's own exit code: `python -m alignlaunch.train.torchrun ARGUMENTS OF TORCHRUN`.

torchrun itself ends with 1 when it is told to stop, as it does when the training fails: to Kubernetes a pod that was
evicted would have failed for good. By 143 (128 + SIGTERM) it knows that another try is worth it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.run import main

_LOG_DIR = "PET_LOG_DIR"


def run(arguments: list[str]) -> int:
    """Run torchrun. Returns 128 + the number of the signal that ended it, else 0; a failure is torchrun's own exit."""
    _settle_log_dir()
    try:
        main(arguments)
    except SignalException as signal:
        return 128 + int(signal.sigval)
    return 0


def _settle_log_dir() -> None:
    """Without a folder that can be written, the log goes to the pod's own alone; the training tells what is wrong."""
    wanted = os.environ.get(_LOG_DIR)
    try:
        if wanted:
            Path(wanted).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        del os.environ[_LOG_DIR]
        print(f"alignlaunch: {wanted}: no copy of the log is kept there: {error.strerror}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
