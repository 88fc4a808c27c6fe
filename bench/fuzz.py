"""`python -m bench.fuzz [--runs N] [--processes N] [WORD ...]`: everything that others may have written, with damage.

Inputs and their rule are in tests/fuzz: a message or a result, never a traceback, and no process, connection or file
outside. Prints a row for each target, and the sum of the runs; exits with 1 if one of them broke the rule.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.test_fuzz import ALL


def fuzz(name: str, runs: int) -> tuple[str, int, float, str]:
    """(target, runs, seconds, what broke the rule)."""
    start, tried, broken = time.monotonic(), 0, ""
    try:
        tried = ALL[name].run(runs, seed=False)
    except BaseException:  # noqa: BLE001 - to be shown beside the others
        broken = traceback.format_exc()
    return name, tried, time.monotonic() - start, broken


def main() -> int:
    """Fuzz every target whose name has one of the words, in processes of their own."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("words", nargs="*", help="only targets whose names have one of these words")
    parser.add_argument("--runs", type=int, default=120_000, help="of all targets together")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    names = [name for name in ALL if not options.words or any(word in name for word in options.words)]
    start, total, failed = time.monotonic(), 0, 0
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        each = -(-options.runs // len(names))
        for name, tried, seconds, broken in pool.map(fuzz, names, [each] * len(names)):
            print(f"{name:<32} {tried:>8} runs {seconds:>7.1f} s  {'BROKEN' if broken else 'held'}", flush=True)
            if broken:
                print(broken, flush=True)
            total, failed = total + tried, failed + bool(broken)
    print(f"{total} runs of {len(names)} targets in {time.monotonic() - start:.0f} s; {failed} broke the rule")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
