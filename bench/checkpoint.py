"""What committing a checkpoint costs: `python -m bench.checkpoint [GIB] [--dir DIR]`.

One process saves weights and Adam's state of GIB GiB together (1 by default) with torch, brings the files to disk, and
takes their digests, five times; the shares are of the whole save. Digests are part of each rank's own work, so that
more ranks take them at once.
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
    shares = []
    for _ in range(5):
        folder = Path(tempfile.mkdtemp(dir=options.dir, prefix=".bench-checkpoint-"))
        try:
            written, synced, digested = _save(folder, parts)
        finally:
            shutil.rmtree(folder)
        share = digested / (written + synced + digested)
        shares.append(share)
        print(f"write {written:.2f} s | to disk {synced:.2f} s | digests {digested:.2f} s | {share:.1%} of the save")
    print(f"median: digests are {statistics.median(shares):.1%} of the save (aim: under 5 %)")


def _save(folder: Path, parts: dict[str, torch.Tensor]) -> tuple[float, float, float]:
    start = time.perf_counter()
    for name, tensor in parts.items():
        torch.save(tensor, folder / name)
    written = time.perf_counter()
    for name in parts:
        manifest.sync(folder / name)
    synced = time.perf_counter()
    for name in parts:
        manifest.digest(folder / name)
    return written - start, synced - written, time.perf_counter() - synced


if __name__ == "__main__":
    main()
