"""What torchrun starts in the table: the processes meet and say how many they are."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist


def main() -> None:
    dist.init_process_group("gloo")
    dist.all_reduce(torch.ones(1))
    print(f"rank {os.environ['RANK']} trains in a world of {dist.get_world_size()}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
