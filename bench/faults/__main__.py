"""Faults that real runs meet: `python -m bench.faults [--write docs/reliability.md] [--only TEXT...]`, as root.

Each is tried in a run of its own, of two nodes: on the tests' Slurm, on the tests' Kubernetes (a real cluster where
ALIGNLAUNCH_KUBECONFIG names one), and by the bash script. What is found is kept in `.cache/faults.jsonl`, so that the
table can be made from several calls; `--again` tries what is in it already once more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tests.train.conftest import ROOT

from ..made_page import table
from . import on_bash, on_kubernetes, on_slurm
from .fault import Fault, Outcome
from .laboratory import SETTINGS, STEPS, Laboratory

CACHE = ROOT / ".cache/faults.jsonl"

PLACES = ("slurm", "kubernetes", "bash")
_PHASES = ("loading", "first step", "step", "evaluation", "saving", "end")
_UNSAVED, _ASKED = "the checkpoint cannot be saved", "asked to stop"

ON_SLURM = [
    *(Fault("kill", phase) for phase in _PHASES),
    # The first rank alone commits a checkpoint.
    *(Fault("kill", phase, rank=0) for phase in ("step", "committing", "end")),
    Fault("kill", rank="all"),
    *(Fault("kill-launcher", "step", rank=rank) for rank in (0, 1)),
    *(Fault("kill-launcher", phase) for phase in ("loading", "saving")),
    *(Fault("kill", "step", launcher=launcher) for launcher in ("deepspeed", "direct")),
    *(Fault("kill", "saving", launcher=launcher) for launcher in ("deepspeed", "direct")),
    *(Fault(action, second_tier=True) for action in ("kill", "kill-launcher")),
    Fault("kill", launcher="deepspeed", second_tier=True),
    Fault("wait", outside="slurmd and all processes of a node killed", second_tier=True),
    Fault("wait", "evaluation", outside="preempted", second_tier=True),
    Fault("segfault"),
    *(Fault(action) for action in ("stop", "loop")),
    Fault("loop", "evaluation"),
    Fault("stop", launcher="direct"),
    Fault("clock"),
    *(Fault(action) for action in ("truncate", "flip")),
    Fault("raise"),
    Fault("raise", "first step", ends="not tried again"),
    Fault("wait", outside="slurmd and all processes of a node killed"),
    *(Fault("wait", outside=what) for what in ("node set down", "slurmctld restarted", "slurmctld gone for 20 s")),
    Fault("wait", outside="a process and the other node's launcher killed"),
    Fault("wait", outside="a launcher killed, and its port taken"),
    *(Fault("wait", phase, outside="requeued by an operator") for phase in ("step", "saving")),
    *(Fault("wait", phase, outside="time limit") for phase in _PHASES[1:]),
    *(Fault("wait", phase, outside="time limit where Slurm does not requeue") for phase in ("step", "saving")),
    Fault("wait", launcher="direct", outside="a process killed while slurmctld is gone"),
    *(Fault("wait", phase, outside="preempted") for phase in ("step", "evaluation", "saving")),
    Fault("wait", outside="scancel", ends=_ASKED, again=True),
    *(Fault("wait", phase, outside="checkpoint asked for") for phase in ("first step", "step", "evaluation", "saving")),
    *(Fault("wait", phase, outside="stop asked for", ends=_ASKED, again=True) for phase in ("step", "evaluation")),
    Fault("wait", "saving", outside="output folder read-only", ends="Read-only file system", again=True),
    Fault("wait", "saving", outside="disk full", ends=_UNSAVED, again=True),
    Fault("wait", "committing", rank=0, outside="disk full", ends=_UNSAVED, again=True),
]
ON_KUBERNETES = [
    *(Fault("kill", phase, place="kubernetes") for phase in _PHASES),
    *(Fault("kill", phase, rank=0, place="kubernetes") for phase in ("step", "committing")),
    *(Fault("kill", rank=rank, place="kubernetes", nnodes="2:2") for rank in (0, 1)),
    Fault("stop", place="kubernetes"),
    *(Fault("wait", phase, place="kubernetes", outside="pod lost") for phase in ("step", "evaluation", "saving")),
    Fault("wait", place="kubernetes", outside="first pod lost"),
    *(Fault("wait", phase, place="kubernetes", outside="pod deleted") for phase in ("step", "evaluation", "saving")),
    Fault("wait", place="kubernetes", nnodes="2:2", outside="pod deleted"),
    Fault("wait", place="kubernetes", outside="pod evicted"),
    *(Fault("wait", place="kubernetes", outside=f"{who} gone for 20 s") for who in ("API server", "operator")),
    Fault("wait", place="kubernetes", outside="ConfigMap deleted"),
    Fault("wait", place="kubernetes", outside="job deleted", ends="UNKNOWN", again=True),
]
ON_BASH = [
    *(Fault("kill", phase, place="bash") for phase in ("first step", "step", "saving")),
    Fault("kill", rank=0, place="bash"),
    Fault("kill", "committing", rank=0, place="bash"),
    Fault("wait", place="bash", outside="node lost, and its script started again"),
    *(Fault("wait", place="bash", outside=f"network cut for {seconds} s") for seconds in (5, 40)),
]
FAULTS = [*ON_SLURM, *ON_KUBERNETES, *ON_BASH]


HEAD = """\
Each row is a real run of a small model on two nodes, of {steps} steps with a checkpoint every {every}: on a real Slurm,
on Kubernetes, or by the bash script on two nodes. The fault happens once, to one rank or all of them, in the phase
named. A run *goes on to the same losses* if it completes by itself, and every step's loss is that of an undisturbed
run. *Lost* steps were trained twice. The last columns are from the fault to the next new step: in seconds, and as a
ratio to the same run's cold start, which is from the submission to its first step.

{tried}."""


@dataclass(frozen=True)
class Tried:
    """A fault and what became of the run. version: of what ran it."""

    fault: Fault
    outcome: Outcome
    version: str
    commit: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only faults with one of these in their keys")
    parser.add_argument("--again", action="store_true", help="also those that were tried before")
    parser.add_argument("--slurm", default="installed", metavar="SUITE", help="another Debian's Slurm, such as forky")
    parser.add_argument("--list", action="store_true", help="print the faults' keys")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page from all that was tried")
    options = parser.parse_args()
    chosen = [one for one in FAULTS if not options.only or any(text in one.key for text in options.only)]
    if options.list:
        print("\n".join(one.key for one in chosen))
        return
    known = set() if options.again else {one.fault.key for one in read()}
    todo = [one for one in chosen if one.key not in known]
    bad = sum(try_all(place, options.slurm, [one for one in todo if one.place == place]) for place in PLACES)
    if options.write:
        options.write.write_text("\n".join(page(read())) + "\n", encoding="utf-8")
    sys.exit(min(bad, 1))


def laboratory(place: str, suite: str) -> AbstractContextManager[Laboratory]:
    """suite: the Debian whose Slurm is used; "installed" for the installed one."""
    if place == "slurm":
        return on_slurm.laboratory(suite)
    return on_kubernetes.laboratory() if place == "kubernetes" else on_bash.laboratory()


def try_all(place: str, suite: str, faults: list[Fault]) -> int:
    """Try these, and keep what is found. Returns how many runs were not as they must be."""
    if not faults:
        return 0
    bad = 0
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    with laboratory(place, suite) as here:
        for fault in faults:
            began = time.monotonic()
            outcome = here.meet(fault)
            bad += not outcome.is_good
            print(f"{fault.key}: {outcome.verdict} ({time.monotonic() - began:.0f} s) {outcome}", flush=True)
            CACHE.parent.mkdir(exist_ok=True)
            with CACHE.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(Tried(fault, outcome, here.version, commit))) + "\n")
    return bad


def read() -> list[Tried]:
    """All that was tried."""
    if not CACHE.exists():
        return []
    lines = map(json.loads, CACHE.read_text(encoding="utf-8").splitlines())
    return [Tried(Fault(**one["fault"]), Outcome(**one["outcome"]), one["version"], one["commit"]) for one in lines]


def page(tried: list[Tried]) -> Iterator[str]:
    """The page's lines."""
    yield "<!-- Made by `make faults`. Do not edit. -->"
    yield "# Reliability: what faults cost"
    yield ""
    keys = {one.key for one in FAULTS}
    tried = [one for one in tried if one.fault.key in keys]
    versions = ", ".join(dict.fromkeys(one.version for one in tried))
    commits = ", ".join(dict.fromkeys(one.commit for one in tried))
    tried_with = f"Tried {len(tried)} times, on {versions}, with {commits}"
    yield from HEAD.format(steps=STEPS, every=SETTINGS["save_steps"], tried=tried_with).split("\n")
    head = ["fault", "how", "phase", "rank", "good", "the run", "lost", "seconds", "ratio"]
    for place in PLACES:
        here = [one for one in tried if one.fault.place == place]
        yield ""
        yield f"## {place.capitalize()}"
        yield from table(head, [_row(key, here) for key in dict.fromkeys(one.fault.key for one in here)])


def _row(key: str, tried: list[Tried]) -> list[str]:
    """What became of a fault: the medians of those that were good, or else the last verdict."""
    of_key = [one for one in tried if one.fault.key == key]
    fault, outcomes = of_key[-1].fault, [one.outcome for one in of_key]
    good = [one for one in outcomes if one.is_good]
    timed = [one for one in good if one.seconds and one.cold]
    shown = next((one for one in reversed(outcomes) if not one.is_good), outcomes[-1])
    return [
        *(fault.name, fault.how, fault.phase, "–" if fault.outside else str(fault.rank)),
        *(f"{len(good)} of {len(of_key)}", shown.verdict, f"{median(one.lost for one in outcomes):g}"),
        f"{median(one.seconds for one in timed if one.seconds):.0f}" if timed else "–",
        f"{median(one.seconds / one.cold for one in timed if one.seconds and one.cold):.2f}" if timed else "–",
    ]


if __name__ == "__main__":
    main()
