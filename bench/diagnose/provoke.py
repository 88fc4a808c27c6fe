"""Provoke faults for real and keep what was said: `python -m bench.diagnose.provoke [NAME...]`, as root.

Each becomes tests/launchers/diagnose/logs/NAME.log; `--list` names them. Those that need a GPU lie there already and
say where they are from.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.train.conftest import ROOT

from . import clusters, processes
from .workshop import Workshop

LOGS = ROOT / "tests/launchers/diagnose/logs"
DUMPS = ROOT / "tests/launchers/diagnose/dumps"
_MOST_LINES = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help="default: all")
    parser.add_argument("--list", action="store_true", help="print the names")
    options = parser.parse_args()
    faults = [*processes.FAULTS, *clusters.FAULTS]
    if options.list:
        print("\n".join(faults))
        return
    if unknown := set(options.names) - set(faults):
        parser.error(f"{', '.join(sorted(unknown))}: no such fault; --list names them")
    with tempfile.TemporaryDirectory(prefix="alignlaunch-provoke-") as scratch:
        at = Workshop(Path(scratch))
        for name in options.names or faults:
            began = time.monotonic()
            text = processes.FAULTS[name](at) if name in processes.FAULTS else clusters.FAULTS[name]()
            (LOGS / f"{name}.log").write_text(_excerpt(name, text), encoding="utf-8")
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        for dump in at.folder.glob("fr_rank_*"):
            DUMPS.mkdir(exist_ok=True)
            (DUMPS / dump.name).write_bytes(dump.read_bytes())


def _excerpt(name: str, text: str) -> str:
    """The log; of a long one the begin and the end."""
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        lines = [*lines[:30], *lines[-(_MOST_LINES - 30) :]]
    head = f"# Provoked by `python -m bench.diagnose.provoke {name}`."
    return "\n".join([head, *(line.rstrip()[:1000] for line in lines)]) + "\n"


if __name__ == "__main__":
    main()
