"""`plan --png`: the alternatives as stacked bars. Needs matplotlib, an optional dependency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import strategies
from .memory import GIB, TERMS

if TYPE_CHECKING:
    from .plan import Option, Plan


def write(path: Path, plan: Plan, options: list[Option]) -> None:
    """One bar for each alternative, by term, and a line at the GPU's usable memory.

    Raises UsageError without matplotlib, or for a suffix that is no image format.
    """
    try:
        import matplotlib
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise UsageError(
            f"--png {path}: matplotlib cannot be used here ({error})\n    remedy: pip install 'alignlaunch[plot]'"
        ) from error
    matplotlib.use("Agg")
    figure, axes = plt.subplots(figsize=(10, 1.5 + 0.3 * len(options)))
    names = [_name(option) for option in options]
    left = [0.0] * len(options)
    for term in TERMS:
        sizes = [option.peak.terms[term] / GIB for option in options]
        axes.barh(names, sizes, left=left, label=term)
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    if plan.limits.gpu is not None:
        axes.axvline((plan.limits.gpu - strategies.OVERHEAD) / GIB, color="black", linestyle="--", label="GPU")
    axes.invert_yaxis()
    axes.set_xlabel("GiB on a GPU, at the peak of a step")
    axes.set_title(plan.job.spec.name)
    axes.legend(fontsize="small")
    _save(figure, path)
    plt.close(figure)


def _name(option: Option) -> str:
    setup = option.setup
    return f"{setup.tuning.name}, {strategies.name(setup)}{'' if setup.checkpointing else ', no checkpointing'}"


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=120, bbox_inches="tight")
    except ValueError as error:  # a suffix that is no image format
        raise UsageError(f"--png {path}: {error}\n    remedy: end its name with .png") from error
