"""What `compare` and `report` of many long runs cost: seconds, memory, size of the page.

`python -m bench.results [--runs N] [--lines M]`. Every run is made first, with its files, in a folder of its own under
/tmp that is deleted afterwards.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from tests.support import results

REPORT = "report.html"


def main() -> None:
    """Make the runs, run both commands, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--lines", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alignlaunch-results-") as scratch:
        folder = Path(scratch)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        names = [f"run-{number}" for number in range(options.runs)]
        make(folder, names, options.lines)
        size = sum(path.stat().st_size for path in folder.glob("output/*/metrics.jsonl"))
        print(f"{options.runs} runs of {options.lines:,} lines, {size / 2**30:.2f} GiB, {os.cpu_count()} processors")
        print("| | seconds | of a processor | peak memory of all processes, MiB | file, MiB |\n|---|---|---|---|---|")
        measure("compare", *names)
        measure("report", *names, "-o", str(folder / REPORT), file=folder / REPORT)


def make(folder: Path, names: list[str], count: int) -> None:
    """Runs with different learning rates and noise of their own."""
    with ProcessPoolExecutor() as pool:
        list(pool.map(_make, [folder] * len(names), range(len(names)), names, [count] * len(names)))


def _make(folder: Path, number: int, name: str, count: int) -> None:
    lines = results.curve(count, seed=number, every=max(1, count // 100))
    results.write(folder, name, lines, train={"learning_rate": round(1e-5 * (1 + number / 100), 8), "seed": number % 3})


def measure(*arguments: str, file: Path | None = None) -> None:
    """Print a row of the table."""
    begin, before = time.monotonic(), os.times()
    process = psutil.Popen([sys.executable, "-m", "alignlaunch.launchers.cli", *arguments], stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        most = max(most, _memory(process))
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    now = os.times()
    cpu = now.children_user + now.children_system - before.children_user - before.children_system
    if process.returncode:
        raise SystemExit(f"{arguments[0]} ended with {process.returncode}")
    size = f"{file.stat().st_size / 2**20:.2f}" if file else ""
    print(f"| {arguments[0]} | {seconds:.1f} | {cpu:.1f} | {most >> 20} | {size} |")


def _memory(process: psutil.Popen) -> int:
    """Bytes of its own and its children's memory, what they share counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


if __name__ == "__main__":
    main()
