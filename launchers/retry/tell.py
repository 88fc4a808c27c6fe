"""`python -m alignlaunch.launchers.retry.tell RUN_DIR --code N [--again]`: the batch script tells how an attempt ended.

Only if the job's `notify` names anybody. A cause is told that was recorded since the attempt began.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from alignlaunch.train import config
from alignlaunch.train.outputs import recording
from alignlaunch.train.outputs.notify import telling
from alignlaunch.train.processes import rendezvous

from . import attempts


def main() -> int:
    """Tell. Returns the exit code."""
    options = _parser().parse_args()
    try:
        job = config.load(options.run_dir / "job.resolved.yaml")
    except ValueError as error:
        print(f"alignlaunch: notify: {error}", file=sys.stderr)  # noqa: T201 - the log
        return 1
    _, began = recording.began_at(os.environ, "single")
    causes = [one.ended.cause for one in attempts.read(options.run_dir) if one.time >= began]
    telling.start(job, rendezvous.run_id(os.environ))
    telling.ended(options.code, again=options.again, cause=causes[-1] if causes else "")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignlaunch.launchers.retry.tell", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="the run's folder")
    parser.add_argument("--code", type=int, required=True, help="the exit code of the attempt")
    parser.add_argument("--again", action="store_true", help="there is another attempt")
    return parser


if __name__ == "__main__":
    sys.exit(main())
