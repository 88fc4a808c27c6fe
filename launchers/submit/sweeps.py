"""Sweeps where the points are one array of jobs: its script beside those of the points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..audit import drift
from ..backends.base import ArrayBackend, Backend, Rendered
from ..job.pipeline import Pipeline


def arrays(pipeline: Pipeline, rendered: Mapping[str, Rendered], backend: Backend) -> dict[str, Rendered]:
    """The script of each sweep's array, by its step; none where the place takes each point by itself.

    Raises UsageError for points that cannot be one array.
    """
    if not isinstance(backend, ArrayBackend):
        return {}
    found: dict[str, Rendered] = {}
    for step, points in pipeline.sweeps.items():
        if first := next((rendered[point] for point in points if point in rendered), None):
            folder = first.folder.parent
            found[step] = replace(first, folder=folder, files=drift.array_of(pipeline, step, folder))
    return found
