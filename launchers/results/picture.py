"""`compare --png`: the curves of several runs, one figure for each metric that has a direction. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from . import summary, table
from .summary import Row

_MOST_FIGURES = 12


def write(path: Path, rows: Sequence[Row]) -> None:
    """Draw them. Raises UsageError without matplotlib or curves, or for a suffix that is no image format."""
    try:
        import matplotlib
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise UsageError(
            f"--png {path}: matplotlib cannot be used here ({error})\n    remedy: pip install 'alignlaunch[plot]'"
        ) from error
    names = dict.fromkeys(name for row in rows for name, curve in row.result.curves.of.items() if len(curve.steps) > 1)
    chosen = [name for name in names if summary.direction(name)][:_MOST_FIGURES]
    if not chosen:
        raise UsageError(f"--png {path}: these runs have no curve to draw\n    remedy: see what is said of them above")
    matplotlib.use("Agg")
    across = min(3, len(chosen))
    down = -(-len(chosen) // across)
    figure, grid = plt.subplots(down, across, figsize=(5 * across, 3.4 * down), squeeze=False, layout="constrained")
    for axes in grid.flat[len(chosen) :]:
        axes.remove()
    for name, axes in zip(chosen, grid.flat, strict=False):
        for label, row in zip(table.labels(rows), rows, strict=True):
            if curve := row.result.curves.of.get(name):
                axes.plot(curve.steps, curve.values, label=label.replace("$", r"\$"), linewidth=1.2)
        axes.set_title(name.replace("$", r"\$"))
        axes.set_xlabel("step")
        axes.grid(visible=True, alpha=0.3)
    handles = {
        label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=across, fontsize="small")
    try:
        figure.savefig(path, dpi=110)
    except ValueError as error:  # a suffix that is no image format
        raise UsageError(f"--png {path}: {error}\n    remedy: end its name with .png") from error
    plt.close(figure)
