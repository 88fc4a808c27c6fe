"""The curves of several runs as figures: which there are, in which order, and their points in few bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from . import thinning
from .gather import Result

#: Points of all figures together: some three bytes each in the page.
_MOST_POINTS = 400_000
_FEWEST = 40
_OPTIMISATION = ("learning_rate", "grad_norm", "lambda")
_SPEED = ("tokens_per_second", "samples_per_second", "memory_peak_gib", "mfu")
#: What a trainer sums up once at the end, and how long an evaluation took: figures of nothing.
_NO_FIGURE = ("_runtime", "_per_second", "total_flos")


def of(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A figure for each metric: `name`, and `curves`: number of the run, steps (each as the difference to the
    one before), values with five digits.
    """
    names = [
        name for name in dict.fromkeys(name for one in results for name in one.curves.of) if _is_drawn(name, results)
    ]
    names.sort(key=_group)
    count = sum(name in one.curves.of for one in results for name in names)
    most = max(_FEWEST, _MOST_POINTS // max(1, count))
    return [{"name": name, "curves": _curves(name, results, most)} for name in names]


def most_points(figures: Sequence[dict[str, Any]]) -> int:
    """Of the longest curve."""
    return max((len(values) for figure in figures for _, _, values in figure["curves"]), default=0)


def is_thinned(results: Sequence[Result], figures: Sequence[dict[str, Any]]) -> bool:
    """Whether a figure has fewer points than there are records."""
    return any(
        len(values) + curve.unusable < curve.count
        for figure in figures
        for number, _, values in figure["curves"]
        if (curve := results[number].curves.of[figure["name"]])
    )


def _group(name: str) -> int:
    """What comes first: the loss, other losses, evaluations, rewards, the optimiser, others, speed and memory."""
    kinds = (
        name in ("loss", "eval_loss"),
        name.endswith("_loss") and not name.startswith("eval_"),
        name.startswith(("eval_", "safety_eval/")),
        name.startswith("rewards/"),
        name in _OPTIMISATION,
        name not in _SPEED,
    )
    return kinds.index(True) if True in kinds else len(kinds)


def _is_drawn(name: str, results: Sequence[Result]) -> bool:
    if name not in _SPEED and name.endswith(_NO_FIGURE):
        return False
    return any(len(one.curves.of[name].values) > 1 for one in results if name in one.curves.of)


def _curves(name: str, results: Sequence[Result], most: int) -> list[tuple[int, list[int], list[float]]]:
    found = []
    for number, one in enumerate(results):
        curve = one.curves.of.get(name)
        if curve and curve.values:
            kept = thinning.kept(curve.values, most)
            steps = [0, *(curve.steps[i] for i in kept)]
            found.append((number, [b - a for a, b in pairwise(steps)], [float(f"{curve.values[i]:.5g}") for i in kept]))
    return found
