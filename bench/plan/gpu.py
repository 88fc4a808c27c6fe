"""The planner against a real GPU: `torch.cuda.max_memory_allocated` of a step, in a process of its own a configuration.

    python -m bench.plan.gpu --write docs/plan-gpu.md

Needs one GPU. Models are made from their shapes with random weights: nothing is downloaded. A configuration that does
not fit is told as such; the planner should have said so. Aim: every peak within 10 %. Exit 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from alignlaunch.launchers.planner import heads
from alignlaunch.train.config import Lora, Stage
from bench.plan.cases import Case

AIM = 0.10
_LORA = Lora(r=8)
#: Model, stage, adapter, sequences of 1,024 tokens, checkpointing.
MEASURED: list[tuple[str, Stage, Lora | None, int, bool]] = [
    ("0.5B", "sft", None, 4, True),
    ("0.5B", "sft", None, 4, False),
    ("0.5B", "orpo", None, 4, True),
    ("0.5B", "rm", _LORA, 8, True),
    ("0.5B", "rm", _LORA, 8, False),
    ("1.7B", "sft", None, 2, True),
    ("1.7B", "sft", _LORA, 8, True),
    ("1.7B", "sft", _LORA, 4, False),
    ("1.7B", "dpo", _LORA, 8, True),
    ("1.7B", "orpo", _LORA, 4, True),
    ("7B", "sft", _LORA, 4, True),
    ("7B", "orpo", _LORA, 2, True),
    ("7B", "rm", _LORA, 4, False),
]
CASES = [
    Case(f"{size} {stage}, {'LoRA' if lora else 'full'}", size, stage, 0, lora, sequences, checkpointing=checkpointing)
    for size, stage, lora, sequences, checkpointing in MEASURED
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table to FILE")
    parser.add_argument("--one", type=int, metavar="N", help=argparse.SUPPRESS)  # what each process runs
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no GPU here: nothing was measured")
    if options.one is not None:
        print(json.dumps(measured(CASES[options.one])))
        return
    text, met = table(torch.cuda.get_device_name(), torch.__version__)
    print(text)
    if options.write:
        options.write.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if met else 1)


def table(device: str, version: str) -> tuple[str, bool]:
    """The table as Markdown, and whether every configuration is within the aim."""
    lines = [
        "<!-- Made by `python -m bench.plan.gpu`. Do not edit. -->",
        f"# The planner against {device}, torch {version}",
        "",
        "| configuration | tokens | checkpointing | ours, MiB | max_memory_allocated, MiB | error |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    met = True
    for number, case in enumerate(CASES):
        command = [sys.executable, "-m", "bench.plan.gpu", "--one", str(number)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        ours = case.ours()
        if done.returncode:
            shown, error, within = "failed", "", False
        else:
            found = json.loads(done.stdout.splitlines()[-1])
            shown, error = f"{found / 2**20:,.0f}", f"{100 * (ours / found - 1):+.1f} %"
            within = abs(ours / found - 1) <= AIM
        met &= within
        tokens = f"{case.sequences} × {case.length} | {'on' if case.checkpointing else 'off'}"
        lines.append(f"| {case.name} | {tokens} | {ours / 2**20:,.0f} | {shown} | {error} |")
    return "\n".join(lines), met


def measured(case: Case) -> int:
    """Bytes at the peak of the second of two steps of real training, one process, without DDP."""
    import torch
    from accelerate.utils import convert_outputs_to_fp32  # type: ignore[import-untyped]

    from bench.plan.reference import build, loss

    model: Any = build(case.config, case.setup, device="cuda")
    model.forward = convert_outputs_to_fp32(torch.autocast("cuda", dtype=torch.bfloat16)(model.forward))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    vocabulary = 1000 if heads.KINDS[case.stage] == "score" else case.config.vocab_size
    ids = torch.randint(1, vocabulary, (case.sequences, case.length), device="cuda")
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        loss(model, ids, case.setup).backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    main()
