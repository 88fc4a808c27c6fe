"""torchrun in a pod, with a signal's own exit code: `python -m alignlaunch.train.torchrun ARGUMENTS OF TORCHRUN`.

torchrun itself exits with 1 on SIGTERM, as after a failed training, so that Kubernetes would not restart an evicted
pod. Exit code 143 (128 + SIGTERM) tells the operator that a retry is worthwhile.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.run import main

_LOG_DIR = "PET_LOG_DIR"


def run(arguments: list[str]) -> int:
    """Run torchrun. Returns 0, or 128 + the number of the signal that ended it; on a failure torchrun itself exits."""
    _settle_log_dir()
    try:
        main(arguments)
    except SignalException as signal:
        return 128 + int(signal.sigval)
    return 0


def _settle_log_dir() -> None:
    """Unset PET_LOG_DIR if the folder cannot be made: the log then goes to the pod's own only, and training starts."""
    wanted = os.environ.get(_LOG_DIR)
    try:
        if wanted:
            Path(wanted).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        del os.environ[_LOG_DIR]
        print(f"alignlaunch: {wanted}: no copy of the log is kept there: {error.strerror}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
