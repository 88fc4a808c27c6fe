"""`sweep:` in a job file: the same job at many points, each of which is a job of its own."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import msgspec

from ..errors import JobFileError, Problem
from . import differences, jobfile, legacy, schema, step_outputs, variant
from .job import Job, Step
from .spec import Random, Sweep
from .yamlfile import Document, Path_, dotted

SWEEP = "sweep"
#: What the points of a sweep are told apart by.
_OWN = ("name", "output_dir", SWEEP)
#: Slurm's default MaxArraySize is 1001.
_MOST = 1000
_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*\Z")

Point = dict[str, Any]


class _Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A range to draw from."""

    min: int | float
    max: int | float
    log: bool = False

    def draw(self, source: random.Random) -> int | float:
        """Whole where both ends are; else with four digits, which are the same on every machine."""
        if self.log:
            drawn = math.exp(source.uniform(math.log(self.min), math.log(self.max)))
        else:
            drawn = source.uniform(self.min, self.max)
        whole = isinstance(self.min, int) and isinstance(self.max, int)
        return min(max(round(drawn) if whole else float(f"{drawn:.3e}"), self.min), self.max)


def jobs(
    document: Document,
    step: Step,
    overrides: tuple[str, ...],
    cluster_name: str | None,
    *,
    given: Sequence[str],
    **more: Any,
) -> dict[str, Job]:
    """The points of a job file's sweep as jobs of which none needs another, by their names in the pipeline.

    step: the one that is a sweep; of a file that is one by itself its name is "". given: the overrides that it got,
    which the document has already. more: for `jobfile.build`. Raises JobFileError with every problem of every point.
    """
    points, sweep, problems = take(document)
    problems += step_outputs.stray(document)
    # With a name the points are committed under it; else what is given makes all of them variants.
    given = () if any(one.startswith("name=") for one in given) else given
    found: dict[str, Job] = {}
    for point in points:
        label = variant.point_label(point)
        name = f"{step.name}/{label}" if step.name else label
        try:
            job = jobfile.build(at(document, point), overrides, cluster_name, step=step._replace(name=name), **more)
        except JobFileError as error:
            problems += error.problems
            continue
        found[name] = variant.of_sweep(job, point, sweep.max_parallel, given)
    if problems:
        raise JobFileError(jobfile.in_order(problems))
    return found


def take(document: Document) -> tuple[list[Point], Sweep, list[Problem]]:
    """Remove `sweep` from a job file: its points as dotted keys with their values, itself, and its problems."""
    data = document.data.pop(SWEEP)
    path: Path_ = (SWEEP,)
    if not isinstance(data, dict):
        remedy = "`sweep: {over: {KEY: [..]}}`"
        return [], Sweep(), [Problem(document.place(path), SWEEP, data, "a map is expected", remedy)]
    problems = schema.check(Sweep, document, data, path)
    if problems:
        return [], Sweep(), problems
    sweep = msgspec.convert(data, Sweep)
    axes = dict(_axes(sweep.over, (*path, "over"), document, bool(sweep.random), problems))
    listed = [dict(differences.flat(point)) for point in sweep.points]
    for i, point in enumerate(listed):
        problems += _bad_keys(point, document, (*path, "points", i))
    if problems:
        return [], sweep, problems
    points = listed + (_drawn(axes, sweep.random) if sweep.random else _grid(axes))
    rule = ""
    if not points:
        rule, remedy = "no points", "`over: {train.learning_rate: [1e-5, 2e-5]}`, or a list of `points`"
    elif len(points) > _MOST:
        rule, remedy = f"{len(points)} points", f"at most {_MOST}; `random: {{count: 100}}` draws some of them"
    elif twice := next((one for i, one in enumerate(points) if one in points[:i]), None):
        rule, remedy = f"the point {twice} is there twice", "remove one; of a small grid, random points repeat"
    if rule:
        problems.append(Problem(document.place(path), SWEEP, None, rule, remedy))
    return points, sweep, problems


def at(document: Document, point: Point) -> Document:
    """The job file at one point."""
    job = deepcopy(document)
    for key, value in point.items():
        path = tuple(key.split("."))
        legacy.put(job, path, value, f"{document.place((SWEEP,))} ({key})")
    return job


def _axes(
    over: dict[str, Any], path: Path_, document: Document, drawn: bool, problems: list[Problem]
) -> Iterator[tuple[str, Any]]:
    """(dotted key, its values or its span) of `over`, whose keys may be nested as in a job file."""
    for key, value, inner in _leaves(over, path):
        place = document.place(inner)
        problems += _bad_keys({key: value}, document, path)
        if isinstance(value, dict):
            span = _span(value)
            if span is None:
                rule, remedy = "not a range", "{min: 1e-6, max: 1e-4, log: true}, from the smaller number"
                problems.append(Problem(place, dotted(inner), value, rule, remedy))
            elif not drawn:
                rule, remedy = "a range has no points", "`random: {count: 20}`, or a list of values"
                problems.append(Problem(place, dotted(inner), value, rule, remedy))
            yield key, span
        elif isinstance(value, list) and value:
            yield key, value
        else:
            problems.append(Problem(place, dotted(inner), value, "a list of values is expected", "[1e-5, 2e-5]"))


def _leaves(over: dict[str, Any], path: Path_, above: str = "") -> Iterator[tuple[str, Any, Path_]]:
    for key, value in over.items():
        name, inner = f"{above}{key}", (*path, key)
        if isinstance(value, dict) and not {"min", "max"} & value.keys():
            yield from _leaves(value, inner, f"{name}.")
        else:
            yield name, value, inner


def _span(value: dict[str, Any]) -> _Span | None:
    try:
        span = msgspec.convert(value, _Span)
    except msgspec.ValidationError:
        return None
    return span if span.min < span.max and (span.min > 0 or not span.log) else None


def _bad_keys(point: Point, document: Document, path: Path_) -> Iterator[Problem]:
    for key in point:
        place = document.place((*path, key))
        if key.partition(".")[0] in _OWN:
            rule, remedy = "a point's name and output folder say what it changes", "sweep over another key"
            yield Problem(place, f"{dotted(path)}.{key}", None, rule, remedy)
        elif not _KEY.match(key):
            yield Problem(
                place, f"{dotted(path)}.{key}", None, "no key of a job file", "for example train.learning_rate"
            )


def _grid(axes: dict[str, list[Any]]) -> list[Point]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []


def _drawn(axes: dict[str, Any], wanted: Random) -> list[Point]:
    source = random.Random(wanted.seed)  # noqa: S311 - not a secret
    return [
        {key: axis.draw(source) if isinstance(axis, _Span) else source.choice(axis) for key, axis in axes.items()}
        for _ in range(wanted.count)
    ]
