"""docs/preflight.md: each fault between nodes, as torchrun alone and as preflight tells it.

    python -m bench.preflight.table --write docs/preflight.md        # root; half an hour, most of it torchrun's silence

Every fault is provoked with two or three nodes of this machine, network namespaces with addresses of their own.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from bench.preflight.faults import FAULTS, Fault, Outcome, outcomes
from bench.preflight.nodes import ROOT

#: Seconds; longer than the longest of torchrun's own time-outs (2 x 900).
PATIENCE = 1900.0
PREFLIGHT = [sys.executable, "-m", "alignlaunch.train.preflight", "job.resolved.yaml", "--", "true"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", str(ROOT / "bench/preflight/worker.py")]
#: What of torchrun's output tells the most, the first that is found.
TELLING = (
    r"in a world of \d+",
    r"Timed out after \d+ seconds waiting for clients\. \d+/\d+ clients joined",
    r"Gloo connectFullMesh failed[^\n]{0,60}",
    r"EADDRINUSE",
    r"The client socket has timed out after \d+ms while trying to connect",
    r"failed to connect to any network address",
    r"Connection (?:reset|closed|refused)[^\n]{0,30}",
    r"\w+Error: [^\n]{0,80}",
)
INTRODUCTION = """\
# Preflight: what is found before the launcher starts

Before torchrun starts, each node runs `python -m alignlaunch.train.preflight`: it looks at itself, meets the others at
`MASTER_ADDR`, on the master port - 10000 (+ 10000 up to port 11024), and compares. Two exchanges for any number of
nodes, then log2(n) rounds in which each node sends to others and the links are timed. All nodes get the same verdict;
node 0 tells it in full, then the process becomes torchrun. When torchrun's processes have met, they do an all-reduce
within each node and over all, with a deadline, before the model loads. `alignlaunch slurm JOB --preflight-only` ends
there.

Exit codes: 2 where a retry would meet the same again, 3 where it may succeed, also on nodes that cannot know the cause.
An all-reduce that does not end ends its process with 3; torchrun makes that a 1 of its own. `preflight_timeout` is the
patience in seconds: by default 60 on Slurm, 900 where nodes do not start together (an image is pulled, or a person
starts each node); while it waits, a node says each minute for what. The all-reduce has as long, but at least 60 s; 0
leaves out both.

Compared, and an error where they differ: nnodes, nproc_per_node, job.resolved.yaml, the ZeRO JSON, alignlaunch's code,
the model's and the data's files (sizes, and samples of the contents), versions of python, torch, CUDA, NCCL,
transformers, trl, accelerate, peft, deepspeed, bitsandbytes, the number of GPUs, bf16. A warning: GPU types, driver,
InfiniBand ports, MTU, clocks, a link far slower than the others, occupied GPU memory, a small /dev/shm, ulimits.

Preflight uses plain sockets and not torch's TCPStore: it starts in half a second where importing torch takes several,
and the TCPStore's client waits for ever, whatever its time-out, on a port where something listens and does not answer.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds given to torchrun")
    options = parser.parse_args()
    text = "\n".join(page(options.patience)) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


def page(patience: float) -> Iterator[str]:
    """The page's lines. torchrun has all faults at once: nearly all of its time is waiting."""
    with ThreadPoolExecutor(4) as pool:  # few at once: their seconds count
        told = list(pool.map(lambda fault: outcomes(fault, PREFLIGHT, 300), FAULTS))
    asked = [fault for fault in FAULTS if fault.rendezvous]
    with ThreadPoolExecutor(len(asked)) as pool:
        found = pool.map(lambda fault: outcomes(fault, TORCHRUN, patience), asked)
        alone = dict(zip((fault.name for fault in asked), found, strict=True))
    yield "<!-- Made by `python -m bench.preflight.table --write docs/preflight.md`. Do not edit. -->"
    yield INTRODUCTION
    yield f"torchrun of torch {metadata.version('torch')}, static rendezvous with its defaults, gloo; seconds until the"
    yield "last node has ended. Preflight with its default patience of 60 s.\n"
    yield "| fault | torchrun alone | s | preflight | s | exit |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for fault, mine in zip(FAULTS, told, strict=True):
        other = alone.get(fault.name)
        theirs_said, theirs_seconds = _torchrun(other, patience) if other else ("(not its matter)", "")
        seconds = max(one.seconds for one in mine.values())
        codes = ", ".join(sorted({str(one.code) for one in mine.values()}))
        yield f"| {fault.name} | {theirs_said} | {theirs_seconds} | {_ours(fault, mine)} | {seconds:.0f} | {codes} |"


def _torchrun(found: dict[int, Outcome], patience: float) -> tuple[str, str]:
    said = "\n".join(one.said for one in found.values())
    words = next((match[0] for pattern in TELLING if (match := re.search(pattern, said))), "nothing")
    silent = [f"node {node}" for node, one in found.items() if one.code is None]
    longest = max(one.seconds for one in found.values())
    waiting = f"; {' and '.join(silent)} still waits" if silent else ""
    return f"`{words}`{waiting}", f"> {patience:.0f}" if silent else f"{longest:.0f}"


def _ours(fault: Fault, found: dict[int, Outcome]) -> str:
    """The line that the fault is expected to be told by."""
    lines = [line for one in found.values() for line in one.said.splitlines() if fault.said in line]
    words = re.sub(r"^\s*(alignlaunch: preflight: )?(error|remedy): ", "", lines[0]) if lines else "MISSED"
    return f"`{words[:160]}`"


if __name__ == "__main__":
    main()
