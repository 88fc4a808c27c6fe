"""A sweep where its points are one array of jobs: its script beside those of the points."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace

from ..audit import drift
from ..backends.base import ArrayBackend, Backend, Rendered, Say
from ..job.pipeline import Pipeline
from ..runs.records import Run
from . import submission


def array(pipeline: Pipeline, rendered: Mapping[str, Rendered], backend: Backend) -> Rendered | None:
    """The script of a sweep's array; None if this is no sweep, or the place takes each point by itself.

    Raises UsageError for points that cannot be one array.
    """
    if pipeline.sweep is None or not isinstance(backend, ArrayBackend):
        return None
    first = next(iter(rendered.values()))
    folder = first.folder.parent
    return replace(first, folder=folder, files=drift.array_of(pipeline, folder))


def submit(
    pipeline: Pipeline, whole: Rendered, rendered: Mapping[str, Rendered], backend: ArrayBackend, say: Say
) -> dict[str, Run]:
    """Submit the points that are rendered, which need not be all, as one array: {label: run}."""
    labels = [*pipeline.jobs]
    points = {labels.index(label): one for label, one in rendered.items()}
    group = f"{pipeline.name}/{secrets.token_hex(4)}"
    runs = submission.submit_array(whole, points, backend, say, pipeline=group)
    return {labels[index]: run for index, run in runs.items()}
