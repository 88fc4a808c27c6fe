"""`python -m alignlaunch.train.preflight [--timeout S] JOB_RESOLVED_YAML -- LAUNCHER ...`, once on every node.

Exits with 2 if a retry would fail in the same way, and with 3 if it may succeed; otherwise it becomes the launcher.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from .. import best, config
from ..config import TrainConfig
from ..errors import UserError
from . import compare, facts, meeting, node, passed, report
from .facts import Facts
from .findings import NO_RETRY, RETRY, FailedError, exit_code
from .guest import LaunchedError
from .messages import Verdict
from .node import Node

#: Seconds before a node exits after a failure: the first exit makes srun end the other nodes, which may still report.
_EXIT_DELAY = 1.0
#: Seconds that a pod waits for the others if its run has passed before: these may all be new, or past preflight.
_TIMEOUT_AFTER_PASS = 30.0


def main() -> NoReturn:
    """Check this node, meet the others, report, and become the launcher."""
    # As process 1 of a container it would be deaf to it otherwise, and a pod that is deleted would wait for its grace.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    options = _parser().parse_args()
    if node.is_spoken_for(os.environ):
        _become(options.launcher)
    try:
        code = _check(options)
    except UserError as error:
        say(f"error: {error}")
        code = NO_RETRY
    except KeyboardInterrupt:
        say("interrupted")
        code = 1
    if code:
        sys.exit(code)
    _become(options.launcher)


def say(text: str) -> None:
    """Print a message to the log of this node."""
    print(f"alignlaunch: preflight: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the process's own words


def _check(options: argparse.Namespace) -> int:
    start = time.monotonic()
    try:
        job = config.load(options.job)
    except ValueError as error:
        raise UserError(str(error)) from error
    best.settle(job.choices, os.environ.get("ALIGNLAUNCH_RUN_DIR"), say)
    place = node.read(os.environ)
    passed_before = passed.is_marked(job.output_dir)
    timeout = min(options.timeout, _TIMEOUT_AFTER_PASS) if passed_before else options.timeout
    try:
        mine = facts.gather(place, job, options.job)
        verdict = _meet(place, mine, timeout, job, lambda found: _show(found, place, time.monotonic() - start))
        findings = verdict.findings
    except LaunchedError:
        say(f"node 0 has launched at {place.master_addr}:{place.master_port}: node {place.node_rank} goes on alone")
        return 0
    except FailedError as error:
        findings = error.findings
        for finding in findings:
            say(str(finding))
    code = exit_code(findings)
    if code == RETRY and passed_before:
        say("passed before in this run, so it goes on: a pod that comes back alone finds its peers past preflight")
        return 0
    if code == 0 and place.node_rank == 0:
        passed.set_mark(job.output_dir)
    if code and place.node_rank != 0:
        time.sleep(_EXIT_DELAY)
    return code


def _meet(place: Node, mine: Facts, timeout: float, job: TrainConfig, show: Callable[[Verdict], None]) -> Verdict:
    if place.nnodes == 1:
        alone = Verdict(findings=compare.findings({0: mine}), nodes={0: mine})
        show(alone)
        return alone
    try:
        return asyncio.run(meeting.meet(place, mine, timeout, Path(job.output_dir), say, show))
    except FailedError as error:
        raise FailedError(*error.findings, *mine.findings) from error


def _show(verdict: Verdict, place: Node, seconds: float) -> None:
    """Node 0 prints everything, the others only a failure in one line: a thousand copies would flood a common log."""
    errors = [finding for finding in verdict.findings if finding.error]
    if place.node_rank != 0:
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            say(f"node {place.node_rank}: failed: {errors[0].text}{more}; node 0 has told all of it")
        return
    for line in report.table(verdict) if 1 < len(verdict.nodes) == place.nnodes else ():
        say(line)
    for finding in verdict.findings:
        say(str(finding))
    outcome = "failed" if errors else "passed"
    count = f"{place.nnodes} node{'s' if place.nnodes > 1 else ''} x {place.nproc_per_node}"
    say(f"{outcome}: {count} at {place.master_addr}:{place.master_port}, {seconds:.1f} s")


def _become(launcher: list[str]) -> NoReturn:
    if shutil.which(launcher[0]) is None:
        say(f"error: {launcher[0]}: not found\n    remedy: activate the training environment on this node")
        sys.exit(NO_RETRY)
    os.execvp(launcher[0], launcher)  # noqa: S606 - the launcher takes this process's place


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignlaunch.train.preflight", description=__doc__)
    parser.add_argument("job", type=Path, help="job.resolved.yaml; paths in it are relative to the working directory")
    parser.add_argument("--timeout", type=float, default=60, help="seconds that the nodes wait for each other")
    parser.add_argument("launcher", nargs="+", help="after --: what to run when all is well")
    return parser


if __name__ == "__main__":
    main()
