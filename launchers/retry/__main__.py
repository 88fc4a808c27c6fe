"""`python -m alignlaunch.launchers.retry --log FILE --code N RUN_DIR`: run by the batch script when a run has failed.

Prints on stderr, and so in the log, what was decided and why. Exits with 0 if the run is to be tried again, and then
prints the node that it is to be without, if any, on stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import msgspec

from alignlaunch.train import config
from alignlaunch.train.outputs import checkpoints

from ..diagnose import judge
from ..diagnose.gather import Evidence
from ..diagnose.judge import Verdict
from ..runs import bad_nodes
from . import attempts
from .attempts import Recorded
from .decision import Decision, Ended, decide

_STOP = 1


def main() -> int:
    """Decide, record and report. Returns the exit code."""
    options = _parser().parse_args()
    folder = Path(options.run_dir)
    verdict = _verdict(options.log)
    ended = Ended(verdict.name, verdict.retry, options.code, _last_step(folder), _node(verdict, options))
    before = [one.ended for one in attempts.read(folder)]
    decision = decide(ended, before)
    evidence = next(iter(verdict.evidence), verdict.cause)
    try:
        attempts.add(folder, Recorded(time.time(), ended, decision, evidence))
        if decision.without:
            bad = bad_nodes.BadNode(decision.without, verdict.cause, folder.name, time.time())
            bad_nodes.add(Path(os.environ[bad_nodes.VARIABLE]), bad)
    except (OSError, KeyError) as error:
        _say(f"not recorded: {error}")
    _say(("" if decision.again else "not ") + f"tried again: {decision.why} ({evidence})" + _without(decision))
    if decision.without:
        print(decision.without)  # noqa: T201 - for the batch script
    return 0 if decision.again else _STOP


def _without(decision: Decision) -> str:
    return f"; without node {decision.without}" if decision.without else ""


def _verdict(log: Path) -> Verdict:
    found = Evidence(log.name)
    found.read({log.name: log})
    found.close()
    return judge.verdict(found.scan) or Verdict("unknown", "nothing in the log says why it failed")


def _last_step(run_dir: Path) -> int:
    """The step of the newest complete checkpoint of the run; -1 without one, or if that cannot be read."""
    try:
        job = config.load(run_dir / "job.resolved.yaml")
    except (OSError, ValueError, msgspec.MsgspecError):
        return -1
    return checkpoints.reached(Path(job.output_dir))


def _node(verdict: Verdict, options: argparse.Namespace) -> str:
    """The name of the node where the run failed first; "" if that is not known. srun tells tasks, others hosts."""
    _, _, task = verdict.where.partition("task ")
    number = int(task) // options.tasks_per_node if task.isdigit() else None
    if number is not None and number < len(options.nodes):
        return str(options.nodes[number])
    host = verdict.where.rpartition(" on ")[2].partition(".")[0]
    return host if host in options.nodes else ""


def _say(message: str) -> None:
    print(f"alignlaunch: {message}", file=sys.stderr)  # noqa: T201 - the log


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignlaunch.launchers.retry", description=__doc__)
    parser.add_argument("run_dir", help="the run's folder")
    parser.add_argument("--log", type=Path, required=True, help="the run's log; its last attempt counts")
    parser.add_argument("--code", type=int, required=True, help="the exit code of the attempt")
    parser.add_argument("--tasks-per-node", type=int, default=1, help="how many tasks srun starts on each node")
    parser.add_argument("--nodes", nargs="*", default=[], help="the names of the nodes, in their order")
    return parser


if __name__ == "__main__":
    sys.exit(main())
