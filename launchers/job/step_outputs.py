"""References `${STEP.output}` in a job's values: the output folder of another step in its pipeline."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..errors import Problem
from .yamlfile import Document, Path_, dotted

#: Shell variables have no dot in their names, so this cannot be one.
_REFERENCE = re.compile(r"\$\{([\w-]+)\.([\w-]+)\}")


def find(document: Document) -> list[tuple[Path_, re.Match[str]]]:
    """(path of the value, match) of every reference. The match's groups: the step, and what it refers to ("output")."""
    found: list[tuple[Path_, re.Match[str]]] = []

    def note(path: Path_, reference: re.Match[str]) -> str:
        found.append((path, reference))
        return reference[0]

    _replace(document.data, note)
    return found


def fill(document: Document, outputs: dict[str, str]) -> None:
    """Replace each reference by its step's output folder, or by the step's name if `outputs` lacks it."""
    document.data = _replace(document.data, lambda _, reference: outputs.get(reference[1], reference[1]))


def stray(document: Document) -> list[Problem]:
    """Problems for the references of a job outside a pipeline, which has no other steps."""
    rule, remedy = "refers to a step of a pipeline, and this job runs alone", "run the pipeline file, or give the path"
    return [Problem(document.place(path), dotted(path), ref[0], rule, remedy) for path, ref in find(document)]


def _replace(value: Any, answer: Callable[[Path_, re.Match[str]], str], path: Path_ = ()) -> Any:
    """`value` with each reference in its strings replaced by `answer(path, match)`."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda reference: answer(path, reference), value)
    if isinstance(value, dict):
        return {key: _replace(item, answer, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, answer, (*path, i)) for i, item in enumerate(value)]
    return value
