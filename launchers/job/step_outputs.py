"""References in a job's values to the output folder of another step in its pipeline: `${STEP.output}`.

Of a step that is a sweep `${STEP.best(METRIC).output}`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from alignlaunch.train import best
from alignlaunch.train.config import Choice

from ..errors import Problem
from .job import Job
from .yamlfile import Document, Path_, dotted

#: Shell variables have no dot in their names, so this cannot be one.
_REFERENCE = re.compile(r"\$\{([\w-]+)\.([\w-]+(?:\([^(){}]*\))?(?:\.[\w-]+)*)\}")
#: The path of a value, and a reference in it.
Found = tuple[Path_, re.Match[str]]
_BEST = re.compile(r"best\(([\w./-]+)\)\.output")


def find(document: Document) -> list[Found]:
    """(path of the value, match) of every reference. The match's groups: the step, and what
    of it ("output", "best(eval_loss).output")."""
    found: list[Found] = []

    def note(path: Path_, reference: re.Match[str]) -> str:
        found.append((path, reference))
        return reference[0]

    _replace(document.data, note)
    return found


def fill(document: Document, outputs: dict[str, str]) -> None:
    """Replace each reference by the folder that `outputs` has for it, or by the step's name if it has none.

    outputs: by what stands between the braces.
    """
    document.data = _replace(document.data, lambda _, found: outputs.get(f"{found[1]}.{found[2]}", found[1]))


def metric_of(what: str) -> str:
    """The metric of `best(METRIC).output`; "" for what is no such reference."""
    match = _BEST.fullmatch(what)
    return match[1] if match else ""


def stray(document: Document) -> list[Problem]:
    """Problems for the references of a job outside a pipeline, which has no other steps."""
    rule, remedy = "refers to a step of a pipeline, and this job runs alone", "run the pipeline file, or give the path"
    return [Problem(document.place(path), dotted(path), ref[0], rule, remedy) for path, ref in find(document)]


def of(owner: Job, folder: Path) -> str:
    """The owner's output folder relative to `folder`, so that the text is the same in every checkout."""
    output = owner.spec.output_dir
    if folder == owner.dir or Path(output).is_absolute():
        return output
    return os.path.relpath(owner.dir / output, folder)


def choices(references: list[Found], points: dict[str, list[Job]], folder: Path) -> dict[str, Choice]:
    """{what stands between the braces: the choice} for each reference to the best point of a sweep.

    folder: of the job that refers to it; the choice's paths start there.
    """
    found: dict[str, Choice] = {}
    for _, reference in references:
        metric = metric_of(reference[2])
        if metric and (jobs := points.get(reference[1])):
            among = [of(job, folder) for job in jobs]
            link = PurePath(among[0]).with_name(f"{jobs[0].family}.best-{metric.replace('/', '-')}")
            found[f"{reference[1]}.{reference[2]}"] = Choice(link=str(link), metric=metric, among=among)
    return found


def fault(reference: re.Match[str], *, is_sweep: bool) -> tuple[str, str] | None:
    """Rule and remedy for a reference that does not fit its step; None if it does."""
    step, what = reference.groups()
    metric = metric_of(what)
    if is_sweep and not metric:
        return "a sweep has an output for each point", f"the best: `${{{step}.best(eval_loss).output}}`"
    if metric and not is_sweep:
        return "this step is no sweep, and has one output", f"write `${{{step}.output}}`"
    if metric and not best.direction(metric):
        return f"nobody can say whether {metric} should be high or low", "a loss, an accuracy, or rewards/margins"
    if not metric and what != "output":
        return "only a step's output can be referred to", f"write `${{{step}.output}}`"
    return None


def _replace(value: Any, answer: Callable[[Path_, re.Match[str]], str], path: Path_ = ()) -> Any:
    """`value` with each reference in its strings replaced by `answer(path, match)`."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda reference: answer(path, reference), value)
    if isinstance(value, dict):
        return {key: _replace(item, answer, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, answer, (*path, i)) for i, item in enumerate(value)]
    return value
