"""What it costs that all ranks agree after each step whether to save or stop: `python -m bench.agreement [PROCESSES]`.

Each rank trains a small network on this machine's CPU with DDP, in turn without the agreement and with it. A step here
takes milliseconds; the last line says what the agreement is of a step of a second.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tests.support.ports import free_port

from alignlaunch.train import stopping
from alignlaunch.train.processes import rendezvous, requests

STEPS, ROUNDS = 100, 10


def main() -> None:
    """Measure, and print one line for each round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("processes", nargs="?", type=int, default=2)
    count = parser.parse_args().processes
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (count, free_port(), folder), nprocs=count)  # type: ignore[attr-defined, no-untyped-call]


def _rank(rank: int, count: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    env = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    place = rendezvous.read({name: str(value) for name, value in env.items()})
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    requests.listener.watch(Path(folder), place)
    trainer = SimpleNamespace(args=SimpleNamespace(ddp_timeout=1800))
    agree = stopping.Stopping(trainer, place)._agreed
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*[torch.nn.Linear(512, 512)] * 4))

    def step(after: Callable[[], object]) -> None:
        network(torch.ones(64, 512)).sum().backward()
        after()

    without: list[float] = []
    with_: list[float] = []
    for turn in range(ROUNDS):
        for seconds, after in ((without, lambda: None), (with_, agree)):
            begin = time.perf_counter()
            for _ in range(STEPS):
                step(after)
            seconds.append((time.perf_counter() - begin) / STEPS)
        if rank == 0:
            print(f"step {1000 * without[turn]:.2f} ms | with the agreement {1000 * with_[turn]:.2f} ms")
    if rank == 0:
        cost = statistics.median(b - a for a, b in zip(without, with_, strict=True))
        print(f"median: {1000 * cost:.2f} ms a step with {count} processes, {cost:.2%} of a step of a second")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
