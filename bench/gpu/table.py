"""docs/bench-gpu.md, from the results of any number of runs of `python -m bench.gpu`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from bench import trainers
from bench.made_page import table

from .shape import LORA, STAGES, Shape

GIB = 2**30
#: A run: "stage", "side", "round", "shape", "machine", and what `one.run` found, or "failed".
Run = dict[str, Any]

HEAD = (
    "stage",
    "ours, tokens/s",
    "TRL, tokens/s",
    "ours / TRL (spread)",
    "rounds",
    "ours, MFU",
    "TRL, MFU",
    "ours, peak GiB",
    "plan, GiB",
    "plan / peak",
    "TRL, peak GiB",
    "ours, first loss",
    "TRL, first loss",
)

PAGE = """<!-- Made by `python -m bench.gpu --write`. Do not edit. -->
# Training on one device: our stages, TRL's trainers and the plan

{device}, driver {driver}; torch {torch}, transformers {transformers}, trl {trl}, peft {peft}.

{model}: random weights in {precision}, LoRA r={r} of every linear layer, sequences of {length:,} tokens,
{sequences} in a batch (two to a pair, whose prompt is {prompt:,} of them), gradient checkpointing, attention by sdpa.
Each run is a process of its own, the two sides in turn; a step is the median of those after the first; medians over
the rounds.

- Tokens are those of all sequences, on both sides, so that their ratio is that of the seconds of a step.
- MFU counts what was computed: a prompt that two answers share once, and neither recomputation nor reference.
- The peak is that of {memory}. The plan is that of `alignlaunch plan`, which counts every sequence whole.
- Equal first losses show that both sides computed the same.
"""


def page(runs: list[Run]) -> str:
    """The page. Raises ValueError if the runs are of several machines, versions or shapes."""
    settings = [(run["machine"], run["shape"]) for run in runs]
    if not settings:
        raise ValueError("no results: run `python -m bench.gpu` first")
    if any(one != settings[0] for one in settings):
        raise ValueError("results of different machines, versions or shapes are no one table; keep a file for each")
    machine, given = settings[0]
    shape = Shape(**given)
    text = PAGE.format(
        **given | machine | {"r": LORA.r},
        model=f"{shape.size} ({shape.case('sft').setup.tuning.count:,} parameters)",
        precision="bf16" if shape.half else "fp32",
        memory="the tensors on the GPU" if shape.device == "cuda" else "the whole process, which has no GPU",
    )
    return text + "\n".join(table(HEAD, rows(runs, shape))) + "\n"


def rows(runs: list[Run], shape: Shape) -> Iterator[list[str]]:
    """A row for each stage that was run."""
    for stage in STAGES:
        sides = [[run for run in runs if (run["stage"], run["side"]) == (stage, side)] for side in trainers.SIDES]
        if any(sides):
            yield [stage, *_row(*sides, plan=shape.case(stage).ours() / GIB)]


def _row(ours: list[Run], theirs: list[Run], *, plan: float) -> list[str]:
    peak = _median(ours, "gib")
    return [
        _cell(ours, lambda run: run["tokens"] / run["seconds"], "{:,.0f}"),
        _cell(theirs, lambda run: run["tokens"] / run["seconds"], "{:,.0f}"),
        _ratios(ours, theirs),
        str(len({run["round"] for run in ours + theirs})),
        _cell(ours, lambda run: run["mfu"], "{:.1%}"),
        _cell(theirs, lambda run: run["mfu"], "{:.1%}"),
        _cell(ours, lambda run: run["gib"], "{:.2f}"),
        f"{plan:.2f}",
        "" if peak is None else f"{plan / peak:.3f}",
        _cell(theirs, lambda run: run["gib"], "{:.2f}"),
        _cell(ours, lambda run: run["loss"], "{:.4f}"),
        _cell(theirs, lambda run: run["loss"], "{:.4f}"),
    ]


def _cell(runs: list[Run], figure: Any, form: str) -> str:
    """The median of a figure; if a run has none, why."""
    if not runs:
        return "not run"
    for run in runs:
        if "failed" in run:
            return f"failed: {run['failed']}"
        if "out_of_memory_gib" in run:
            return f"out of memory at {run['out_of_memory_gib']:.1f} GiB"
    found = [value for run in runs if (value := figure(run)) is not None]
    return form.format(statistics.median(found)) if found else ""


def _median(runs: list[Run], name: str) -> float | None:
    found = [run[name] for run in runs if name in run]
    return statistics.median(found) if found else None


def _ratios(ours: list[Run], theirs: list[Run]) -> str:
    """TRL's seconds by ours, round by round."""
    seconds = [{run["round"]: run["seconds"] for run in side if "seconds" in run} for side in (ours, theirs)]
    found = [seconds[1][number] / seconds[0][number] for number in sorted(seconds[0].keys() & seconds[1].keys())]
    return trainers.spread(found) if found else ""
