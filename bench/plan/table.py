"""docs/plan.md: what the planner says, the reference, the error. `python -m bench.plan.table --write docs/plan.md`.

`--quick` leaves out torch's tracker, which takes minutes.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignlaunch.launchers.planner import documents, memory, states
from alignlaunch.launchers.planner.memory import GIB
from alignlaunch.launchers.planner.states import MIXED, PURE_BF16, Offload
from alignlaunch.launchers.planner.tuning import Quantization, Tuning
from alignlaunch.train.config import Lora
from bench.plan.cases import CASES, Case

BILLION = 10**9
Row = tuple[str, ...]

#: Billions of parameters, stage, GPUs, GB: the ZeRO paper's table 1 and text.
ZERO_PAPER = [
    (7.5, 0, 1, 120),
    (7.5, 1, 64, 31.4),
    (7.5, 2, 64, 16.6),
    (7.5, 3, 64, 1.9),
    (7.5, 1, 4, 52.5),
    (7.5, 2, 4, 41.25),
    (7.5, 3, 4, 30),
    (128, 1, 64, 536),
    (128, 2, 64, 284),
    (128, 3, 64, 32),
]
#: GB of GPU memory on an A100-80GB in PEFT's README: model, billions of parameters, full, LoRA, LoRA with offload.
PEFT = [("T0_3B", 2.783, 47.14, 14.4, 9.8), ("mt0-xxl", 12.9, None, 56, 22), ("bloomz-7b1", 7.07, None, 32, 18.1)]
#: GB a billion parameters in LLaMA-Factory's README.
LLAMA_FACTORY = {"full": 18, "pure bf16": 8, "LoRA": 2, "QLoRA 8-bit": 1, "QLoRA 4-bit": 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    parser.add_argument("--quick", action="store_true", help="without torch's memory tracker")
    options = parser.parse_args()
    text = "\n".join(page(quick=options.quick))
    print(text)
    if options.write:
        options.write.write_text(text + "\n", encoding="utf-8")


def page(*, quick: bool) -> Iterator[str]:
    """The page's lines."""
    yield "<!-- Made by `python -m bench.plan.table --write docs/plan.md`. Do not edit. -->"
    yield "# The planner against its references"
    yield ""
    yield "GB are 10^9 bytes, GiB 2^30, of one GPU. The formulas and their sources stand in `launchers/planner/`."
    yield from section("The ZeRO paper: mixed precision, 16 bytes a parameter, GB", zero_paper())
    yield from section("DeepSpeed's estimators of model states, GiB", deepspeed())
    yield from section("The documents' 32B on 8 GPUs: pure bf16, 8 bytes a parameter, GB", documents_table())
    yield from section("LLaMA-Factory's table: GB a billion parameters, of Llama-2-7B's shape", llama_factory())
    yield from section("PEFT's README, A100-80GB, GB: what is measured against what states alone take", peft())
    if not quick:
        yield from section("torch's memory tracker on fake tensors: peak of one step, one process, MiB", tracker())
    yield ""
    yield from NOTES


NOTES = [
    "## What was not measured here",
    "",
    "No GPU was at hand: `python bench/plan/gpu.py` measures `torch.cuda.max_memory_allocated` in at least 12",
    "configurations and writes its own table with the device named. Until then the figures for real GPUs that are not",
    "by shape are the allowance of 1.5 GiB for CUDA, NCCL and the allocator, the communication buffers (DeepSpeed's",
    "documentation), and attention kernels (a fused one keeps no scores).",
    "",
    "## Where the planner departs from the facts that it was given, and why",
    "",
    "- Logits take 12 bytes a number where they are held (orpo, safe_dpo), not 2 + 4 + 4: in the backward pass",
    "  the log-softmax, its gradient and that of the logits are in fp32 at once. sft, pt and dpo hold none: TRL's",
    "  fused head computes them in tiles.",
    "- A full fine-tune under plain DDP is not the paper's 2 + 2 + 12 but 4 + 4 + 8, with 16-bit copies of the weights",
    "  in the forward pass and DDP's buckets of 4: the entrypoint loads fp32 and computes under autocast.",
    "- Activations are more than 34 sbh a layer: RMSNorm works on an fp32 copy, and under autocast each linear layer",
    "  keeps its own 16-bit copy of an fp32 input. The tracker's table holds them to 15 %.",
    "- With the optimizer offloaded ZeRO-2 keeps no gradients on the GPU (DeepSpeed's estimator); the documents' does.",
    "- Without offload the host holds the model's files once while they are loaded, whatever the number of ranks, and",
    "  each rank's largest module (loading.md), not DeepSpeed's 4 bytes × parameters × GPUs × 1.5.",
    "- On several nodes DeepSpeed's host figure for ZeRO-2 with offload counts the GPUs of all nodes; a plan counts",
    "  those of one node, whose memory it is compared with.",
    "- A step under ZeRO also holds its share of the gradients in fp32 (4 bytes; at stage 3 of one sub-group), which",
    "  LLaMA-Factory's 18 and DeepSpeed's 18 count and the paper's 16 does not: it stands under workspace.",
]


def section(title: str, rows: Iterator[Row]) -> Iterator[str]:
    """A heading and a Markdown table; the first row is its head."""
    head, *body = rows
    yield ""
    yield f"## {title}"
    yield ""
    for row in (head, ("---",) * len(head), *body):
        yield f"| {' | '.join(row)} |"


def error(ours: float, reference: float) -> str:
    return f"{100 * (ours / reference - 1):+.1f} %"


def zero_paper() -> Iterator[Row]:
    yield "parameters", "stage", "GPUs", "ours", "paper", "error"
    for billions, stage, gpus, published in ZERO_PAPER:
        ours = sum(states.sharded(billions * BILLION, MIXED, stage, gpus)) / BILLION
        shown = f"{ours:.2f}"
        yield f"{billions:g}B", str(stage), str(gpus), shown, f"{published:g}", error(ours, published)


def deepspeed() -> Iterator[Row]:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.zero import stage3, stage_1_and_2  # type: ignore[import-untyped]

    yield "parameters", "nodes × GPUs", "strategy", "GPU ours", "GPU DeepSpeed", "host ours", "host DeepSpeed", "error"
    offloads: list[tuple[int, Offload]] = [
        (2, "none"),
        (2, "optimizer"),
        (3, "none"),
        (3, "optimizer"),
        (3, "optimizer+param"),
    ]
    for parameters, largest, nodes, gpus in (
        (2_783_000_000, 65_000_000, 1, 1),
        (2_783_000_000, 65_000_000, 1, 2),
        (32_000_000_000, 778_567_680, 1, 8),
        (70_553_706_496, 1_050_673_152, 4, 8),
    ):
        for stage, offload in offloads:
            place: dict[str, Any] = {"num_gpus_per_node": gpus, "num_nodes": nodes, "cpu_offload": offload != "none"}
            if stage == 2:
                host, gpu = stage_1_and_2.estimate_zero2_model_states_mem_needs(parameters, **place)
            else:
                place["cpu_offload_params"] = offload == "optimizer+param"
                host, gpu, _ = stage3.estimate_zero3_model_states_mem_needs(parameters, largest, **place)
            ours = states.deepspeed_estimate(parameters, largest, stage, nodes=nodes, gpus=gpus, offload=offload)
            yield (
                f"{parameters / BILLION:.1f}B",
                f"{nodes} × {gpus}",
                f"ZeRO-{stage}, offload {offload}",
                f"{ours.gpu / GIB:.2f}",
                f"{gpu / GIB:.2f}",
                f"{ours.host / GIB:.2f}",
                f"{host / GIB:.2f}",
                error(ours.gpu, gpu),
            )


def documents_table() -> Iterator[Row]:
    yield "strategy", "ours", "document", "error", ""
    for row in documents.table_32b():
        yield row.name, f"{row.ours:g}", f"{row.document:g}", error(row.ours, row.document), row.note


def llama_factory() -> Iterator[Row]:
    yield "method", "ours, model states", "LLaMA-Factory", "error"
    setup = Case("7B", "7B", "sft", 2).setup
    model = setup.tuning.model
    per = model.count
    found = {
        "full": sum(states.sharded(per, MIXED, 0, 1)),
        "pure bf16": PURE_BF16.total * per,
    }
    quantizations: dict[str, Quantization] = {"LoRA": "none", "QLoRA 8-bit": "8bit", "QLoRA 4-bit": "4bit"}
    for name, quantization in quantizations.items():
        tuned = replace(setup, tuning=Tuning(model, Lora(), quantization))
        found[name] = sum(memory.model_states(tuned))
    for name, published in LLAMA_FACTORY.items():
        ours = found[name] / per
        yield name, f"{ours:.2f}", f"{published:g}", error(ours, published)


def peft() -> Iterator[Row]:
    yield "model", "method", "ours, states alone", "measured", "beyond states"
    for name, billions, full, lora, _ in PEFT:
        if full is not None:
            ours = MIXED.total * billions
            yield name, "full", f"{ours:.1f}", f"{full:g}", error(full, ours)
        yield (
            name,
            "LoRA, base in 16 or 32 bits",
            f"{2 * billions:.1f} to {4 * billions:.1f}",
            f"{lora:g}",
            f"{error(lora, 4 * billions)} of fp32",
        )


def tracker() -> Iterator[Row]:
    yield "configuration", "model", "tokens", "checkpointing", "ours", "tracker", "error"
    for case in CASES:
        ours, measured = case.ours(), case.measured()
        print(f"{case.name}: {error(ours, measured)}", file=sys.stderr, flush=True)
        yield (
            case.name,
            f"{case.setup.tuning.count / BILLION:.2f}B",
            f"{case.sequences} × {case.length}",
            "on" if case.checkpointing else "off",
            f"{ours / 2**20:,.0f}",
            f"{measured / 2**20:,.0f}",
            error(ours, measured),
        )
    import torch

    print(f"torch {torch.__version__}, Python {platform.python_version()}", file=sys.stderr)


if __name__ == "__main__":
    main()
