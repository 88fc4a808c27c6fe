"""What a sign of life costs a training step: `python -m bench.beats`. No GPU, no network; seconds.

Prints microseconds of a beat and of the end of a step, and the share of a step of 10 ms with one micro-batch.
"""

from __future__ import annotations

import tempfile
import timeit
from pathlib import Path

from alignlaunch.train.processes import rendezvous
from alignlaunch.train.processes.beats import Beats

_TIMES = 100_000


def main() -> None:
    beats = Beats()
    with tempfile.TemporaryDirectory() as folder:
        beats.start(rendezvous.read({}), Path(folder), None)
        beats.begin("training")
        one, end = (timeit.timeit(of, number=_TIMES) / _TIMES for of in (beats.beat, beats.turn))
    step = 2 * one + end
    print(f"beat {one * 1e6:.1f} us, end of a step {end * 1e6:.1f} us: {step / 0.01:.2%} of a step of 10 ms")


if __name__ == "__main__":
    main()
