"""Faults that real runs meet: `python -m bench.faults [--write docs/reliability.md] [--only TEXT...]`, as root.

Each is tried in a run of its own, of two nodes on the tests' Slurm. What is found is kept in `.cache/faults.jsonl`, so
that the table can be made from several calls; `--again` tries what is in it already once more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.slurm.cli import Login
from tests.slurm.cluster.private_slurm import PrivateSlurm
from tests.train.conftest import ROOT

from ..made_page import table
from .trial import SETTINGS, STEPS, Fault, Laboratory, Outcome

CACHE = ROOT / ".cache/faults.jsonl"

FAULTS = [
    *(Fault("kill", phase) for phase in ("loading", "first step", "step", "evaluation", "saving", "end")),
    # The first rank alone commits a checkpoint.
    *(Fault("kill", phase, rank=0) for phase in ("step", "committing", "end")),
    *(Fault("kill-launcher", "step", rank=rank) for rank in (0, 1)),
    Fault("kill-launcher", "saving"),
    *(Fault("kill", "step", launcher=launcher) for launcher in ("deepspeed", "direct")),
    Fault("kill", "saving", launcher="direct"),
    Fault("segfault"),
    *(Fault(action) for action in ("stop", "loop")),
    Fault("loop", "evaluation"),
    Fault("stop", launcher="direct"),
    *(Fault(action) for action in ("truncate", "flip")),
    Fault("raise"),
    Fault("raise", "first step", is_final=True),
    *(Fault("wait", outside=what) for what in ("slurmd killed, node down", "slurmctld killed")),
    *(Fault("wait", phase, outside="requeued by an operator") for phase in ("step", "saving")),
    Fault("wait", outside="time limit"),
    Fault("wait", "saving", outside="time limit"),
]


HEAD = """\
Each row is a real run of a small model on two nodes of a real Slurm ({slurm}), of {steps} steps with a checkpoint every
{every}; the fault happens once, to one process, in the phase named. A run *goes on to the same losses* if it completes
by itself, and every step's loss is that of an undisturbed run. *Lost* steps were trained twice. The last columns are
from the fault to the next new step: in seconds, and as a ratio to the same run's cold start, which is from the
submission to its first step."""


@dataclass(frozen=True)
class Tried:
    """A fault and what became of the run, on which Slurm and commit."""

    fault: Fault
    outcome: Outcome
    slurm: str
    commit: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only faults with one of these in their keys")
    parser.add_argument("--again", action="store_true", help="also those that were tried before")
    parser.add_argument("--list", action="store_true", help="print the faults' keys")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page from all that was tried")
    options = parser.parse_args()
    chosen = [one for one in FAULTS if not options.only or any(text in one.key for text in options.only)]
    if options.list:
        print("\n".join(one.key for one in chosen))
        return
    known = set() if options.again else {one.fault.key for one in read()}
    todo = [one for one in chosen if one.key not in known]
    bad = try_all(todo) if todo else 0
    if options.write:
        options.write.write_text("\n".join(page(read())) + "\n", encoding="utf-8")
    sys.exit(min(bad, 1))


def try_all(faults: list[Fault]) -> int:
    """Try these, and keep what is found. Returns how many runs were not as they must be."""
    bad = 0
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    with (
        tempfile.TemporaryDirectory(prefix="alignlaunch-faults-") as scratch,
        PrivateSlurm(Path(scratch) / "slurm", accounting=False) as slurm,
    ):
        folder = Path(scratch) / "login"
        folder.mkdir()
        laboratory = Laboratory(Login(slurm, folder))
        version = slurm.run("sinfo", "--version").stdout.strip()
        for fault in faults:
            began = time.monotonic()
            outcome = laboratory.meet(fault)
            slurm.wait_idle()
            bad += not outcome.is_good
            print(f"{fault.key}: {outcome.verdict} ({time.monotonic() - began:.0f} s) {outcome}", flush=True)
            CACHE.parent.mkdir(exist_ok=True)
            with CACHE.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(Tried(fault, outcome, version, commit))) + "\n")
    return bad


def read() -> list[Tried]:
    """All that was tried."""
    if not CACHE.exists():
        return []
    lines = map(json.loads, CACHE.read_text(encoding="utf-8").splitlines())
    return [Tried(Fault(**one["fault"]), Outcome(**one["outcome"]), one["slurm"], one["commit"]) for one in lines]


def page(tried: list[Tried]) -> Iterator[str]:
    """The page's lines."""
    yield "<!-- Made by `make faults`. Do not edit. -->"
    yield "# Reliability: what faults cost"
    yield ""
    yield from HEAD.format(
        slurm=", ".join({one.slurm for one in tried}), steps=STEPS, every=SETTINGS["save_steps"]
    ).split("\n")
    keys = {one.key for one in FAULTS}
    rows = []
    for key in dict.fromkeys(one.fault.key for one in tried if one.fault.key in keys):
        of_key = [one for one in tried if one.fault.key == key]
        fault, last = of_key[-1].fault, of_key[-1].outcome
        good = sum(one.outcome.is_good for one in of_key)
        ratio = f"{last.seconds / last.cold:.2f}" if last.seconds and last.cold else "–"
        rows.append(
            [
                *(fault.name, fault.launcher, fault.phase, "–" if fault.outside else str(fault.rank)),
                *(f"{good} of {len(of_key)}", last.verdict, str(last.lost)),
                *(
                    f"{last.seconds:.0f}" if last.seconds and not fault.is_final else "–",
                    "–" if fault.is_final else ratio,
                ),
            ]
        )
    head = ["fault", "launcher", "phase", "rank", "good", "the run", "lost", "seconds", "ratio"]
    yield from table(head, rows)
    commits = ", ".join(dict.fromkeys(one.commit for one in tried))
    yield ""
    yield f"Tried with {commits}."


if __name__ == "__main__":
    main()
