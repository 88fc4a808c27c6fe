"""What the digests of a checkpoint cost: `python -m bench.checkpoint [GIB] [--dir DIR]`.

One process saves weights and Adam's state of GIB GiB together (1 by default) with torch and brings the files to disk,
in turn without digests and with them, as a commit takes them: while the disk is busy.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from alignlaunch.train.outputs import manifest


def main() -> None:
    """Measure and print one line for each round, and the median of the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gib", nargs="?", type=float, default=1.0)
    parser.add_argument("--dir", type=Path, default=Path.cwd())
    options = parser.parse_args()
    values = int(options.gib * 2**30 / 4)
    parts = {"model.safetensors": torch.rand(values // 3), "optimizer.pt": torch.rand(2 * values // 3)}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(12):
        for digests, measured in seconds.items():
            folder = Path(tempfile.mkdtemp(dir=options.dir, prefix=".bench-checkpoint-"))
            try:
                measured.append(_save(folder, parts, digests=digests))
            finally:
                shutil.rmtree(folder)
    ratios = [with_ / without for without, with_ in zip(seconds[False], seconds[True], strict=True)][1:]
    for without, with_ in zip(seconds[False], seconds[True], strict=True):
        print(f"save {without:.2f} s | with digests {with_:.2f} s | {with_ / without:.3f}")
    print(f"median, without the first round: {statistics.median(ratios):.3f} (aim: 1.05)")


def _save(folder: Path, parts: dict[str, torch.Tensor], *, digests: bool) -> float:
    start = time.perf_counter()
    for name, tensor in parts.items():
        torch.save(tensor, folder / name)
    for name in parts:
        if digests:
            manifest.describe(folder, folder / name, 0)
        else:
            manifest.sync(folder / name)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
