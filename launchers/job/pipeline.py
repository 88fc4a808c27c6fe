"""The pipeline file: several jobs, each of which runs after the jobs that it depends on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from alignlaunch.train.config import NonEmptyStr

from ..errors import JobFileError, Problem, UsageError
from . import jobfile, legacy, schema, step_outputs, variant
from . import sweep as sweeps
from .job import Job, Step
from .spec import Name, Sweep
from .yamlfile import STEPS, Document, dotted


class PipelineSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pipeline file's keys."""

    name: Name
    jobs: Annotated[
        dict[str, Any],
        Meta(min_length=1, description="The steps of the pipeline, by name.", examples=[{"sft": {"job": "sft.yaml"}}]),
    ]


class StepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A step's own keys. All other keys are the job's: they override its job file, or are the whole job without one."""

    job: Annotated[
        NonEmptyStr,
        Meta(
            description="Job file of the step, relative to the pipeline file. Without it the "
            "step's keys are the whole job.",
            examples=["sft.yaml"],
        ),
    ] = ""
    after: Annotated[
        list[NonEmptyStr],
        Meta(
            description="Names of steps that must succeed before this one starts, besides those whose output it uses.",
            examples=[["sft"]],
        ),
    ] = []


@dataclass(frozen=True)
class Pipeline:
    """Jobs by step name, each after the steps it needs. A single job file becomes a pipeline of one step."""

    name: str | None  # None: a single job file
    path: Path
    jobs: dict[str, Job]
    needs: dict[str, list[str]]  # step → the steps that must succeed first
    sweep: Sweep | None = None  # the jobs are its points, by their labels

    def origin(self, job: Job) -> Job:
        """The first job of the chain that leads to `job`, in which each starts from its predecessor's output model."""
        sources = {other.output_path("bash"): other for other in self.jobs.values()}
        while (before := sources.get(str((job.dir / job.spec.model).resolve()))) and before is not job:
            job = before
        return job


def load(path: Path, overrides: tuple[str, ...] = (), cluster_name: str | None = None) -> Pipeline:
    """Read and check a pipeline file (which has the key `jobs`) or a job file.

    overrides: `STEP.a.b=c`; for a job file `a.b=c`; they make variants. Raises JobFileError with every problem of
    every step, UsageError.
    """
    document = jobfile.read(path)
    if STEPS not in document.data:
        for override in overrides:
            jobfile.override(document, override, override)
        if document.data.get(sweeps.SWEEP) is not None:
            points, sweep = sweeps.jobs(document, overrides, cluster_name)
            name = next(iter(points.values())).family
            return Pipeline(name, path, points, {label: [] for label in points}, sweep)
        alone = jobfile.load(path, overrides, cluster_name)
        return Pipeline(None, path, {alone.spec.name: alone}, {alone.spec.name: []})

    problems = schema.check(PipelineSpec, document, document.data)
    entries = _entries(document, problems)
    drafts = {step: draft for step in entries if (draft := _draft(document, step, entries[step], problems))}
    committed = _committed(path, cluster_name) if overrides else {}
    given: dict[str, list[str]] = {step: [] for step in entries}  # step → its overrides
    for override in overrides:
        step, _, assignment = override.partition(".")
        if step not in entries:
            raise UsageError(f"--set {override}: not STEP.KEY=VALUE\n    remedy: STEP is one of {', '.join(entries)}")
        given[step].append(assignment)
        if step in drafts:
            jobfile.override(drafts[step], assignment, override)
    needs = _needs(entries, drafts, problems)

    jobs: dict[str, Job] = {}
    before: dict[str, list[str]] = {}  # step → all steps that end before it starts, also indirectly
    for step in TopologicalSorter(needs).static_order():
        before[step] = list(dict.fromkeys(earlier for need in needs[step] for earlier in (*before[need], need)))
        if step not in drafts:
            continue
        folder = Path(drafts[step].name).parent
        outputs = {name: _output(jobs[name], folder) for name in before[step] if name in jobs}
        is_the_file = entries[step].data.keys() <= {"job", "after"} and not (
            overrides or step_outputs.find(drafts[step])
        )
        step_outputs.fill(drafts[step], outputs)
        try:
            jobs[step] = jobfile.build(
                drafts[step],
                overrides,
                cluster_name,
                step=None if is_the_file else Step(path, step),
                upcoming=tuple(outputs.values()),
            )
        except JobFileError as error:
            problems += error.problems
        else:
            if overrides:  # also of an earlier step: its variant has another output folder
                jobs[step] = variant.of(jobs[step], committed.get(step), given[step])
    problems += _collisions(document, jobs) + _dependencies(document, jobs, needs)
    if problems:
        raise JobFileError(jobfile.in_order(problems))
    return Pipeline(document.data["name"], path, jobs, needs)


def _committed(path: Path, cluster_name: str | None) -> dict[str, Job]:
    """The jobs of the pipeline file alone; none if it is not whole without `--set`."""
    try:
        return load(path, (), cluster_name).jobs
    except JobFileError:
        return {}


def _entries(document: Document, problems: list[Problem]) -> dict[str, Document]:
    """Each step as its own document, with places that point into the pipeline file."""
    entries: dict[str, Document] = {}
    jobs = document.data[STEPS]
    for step, data in jobs.items() if isinstance(jobs, dict) else ():
        path = (STEPS, step)
        if not _is_name(step):
            rule, remedy = "not a step's name", "lower-case letters, digits and `-`; starts with a letter"
            problems.append(Problem(document.key_place(path), dotted(path), None, rule, remedy))
        if isinstance(data, dict):
            entries[step] = Document(document.name, data)
        else:
            rule, remedy = "a map is expected", "write `{job: FILE}`, or the job's own keys"
            problems.append(Problem(document.place(path), dotted(path), data, rule, remedy))
    for places in ("keys", "values"):
        for path_, place in getattr(document, places).items():
            if path_[:1] == (STEPS,) and path_[1:2] and path_[1] in entries:
                getattr(entries[path_[1]], places)[path_[2:]] = place
    for entry in entries.values():
        own = {key: value for key, value in entry.data.items() if key in ("job", "after")}
        problems += schema.check(StepSpec, entry, own)
    return entries


def _draft(document: Document, step: str, entry: Document, problems: list[Problem]) -> Document | None:
    """The step's job without defaults: its job file, overridden by the step's keys. None if it cannot be read."""
    keys = {key: value for key, value in entry.data.items() if key not in ("job", "after")}
    file = entry.data.get("job", "")
    if file == "":
        name = document.data.get("name")
        keys.setdefault("name", f"{name}-{step}" if _is_name(name) else step)
        return Document(entry.name, keys, entry.keys, entry.values)
    if not isinstance(file, str):
        return None  # the schema check reports it
    try:
        draft = jobfile.read(Path(document.name).parent / file)
    except JobFileError as error:
        problems += error.problems
        return None
    _lay_over(draft, keys, entry)
    return draft


def _lay_over(draft: Document, keys: dict[str, Any], entry: Document, at: tuple[str, ...] = ()) -> None:
    """Override a job file's keys with the step's, key by key in nested maps."""
    below: Any = draft.data
    for key in at:
        below = below[key]
    for key, value in keys.items():
        path = (*at, key)
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _lay_over(draft, value, entry, path)
            continue
        legacy.put(draft, path, value, entry.place(path))
        for places, written in ((draft.keys, entry.keys), (draft.values, entry.values)):
            places.update({inner: place for inner, place in written.items() if inner[: len(path)] == path})


def _is_name(value: Any) -> bool:
    try:
        msgspec.convert(value, Name)
    except msgspec.ValidationError:
        return False
    return True


def _needs(entries: dict[str, Document], drafts: dict[str, Document], problems: list[Problem]) -> dict[str, list[str]]:
    """{step: the steps it waits for}: those in `after` and those whose output it refers to.

    Dependencies that cannot be met (unknown steps, cycles) become problems and are left out.
    """
    needs: dict[str, list[str]] = {step: [] for step in entries}
    mentions: dict[tuple[str, str], Problem] = {}  # (step, need) → a problem with its place, but no rule or remedy yet
    for step, entry in entries.items():
        after = entry.data.get("after")
        for i, need in enumerate(after if isinstance(after, list) else []):
            mentions.setdefault((step, str(need)), Problem(entry.place(("after", i)), f"after[{i}]", need, "", ""))
        for path, reference in step_outputs.find(drafts[step]) if step in drafts else ():
            begin = Problem(drafts[step].place(path), dotted(path), reference[0], "", "")
            mentions.setdefault((step, reference[1]), begin)
            if reference[2] != "output":
                remedy = f"write `${{{reference[1]}.output}}`"
                problems.append(begin._replace(rule="only a step's output can be referred to", remedy=remedy))
    for (step, need), begin in mentions.items():
        if need not in entries:
            remedy = schema.nearest(need, list(entries)) or f"one of {', '.join(entries)}"
            problems.append(begin._replace(rule="no such step", remedy=remedy))
        elif need == step:
            problems.append(begin._replace(rule="a step cannot wait for itself", remedy="name another step"))
        else:
            needs[step].append(need)
    while cycle := _cycle(needs):
        *_, need, step = cycle
        rule = f"these steps wait for each other: {' -> '.join(cycle)}"
        problems.append(mentions[step, need]._replace(rule=rule, remedy="remove one of these dependencies"))
        needs[step].remove(need)
    return needs


def _cycle(needs: dict[str, list[str]]) -> list[str]:
    """A cycle of steps that wait for each other, with the first step repeated at the end; empty if there is none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


def _output(owner: Job, folder: Path) -> str:
    """The owner's output folder relative to `folder`, so that the text is the same in every checkout."""
    output = owner.spec.output_dir
    if folder == owner.dir or Path(output).is_absolute():
        return output
    return os.path.relpath(owner.dir / output, folder)


def _collisions(document: Document, jobs: dict[str, Job]) -> list[Problem]:
    """Steps that would overwrite each other's artifacts or output."""
    problems: list[Problem] = []
    owners: dict[tuple[str, str], str] = {}
    for step, job_ in jobs.items():
        for key, is_at in (("name", job_.spec.name), ("output_dir", os.path.normpath(job_.dir / job_.spec.output_dir))):
            if (owner := owners.setdefault((key, is_at), step)) != step:
                rule, remedy = f"that of step {owner} too", f"give one of the two another `{key}:`"
                shown = getattr(job_.spec, key)
                problems.append(Problem(document.place((STEPS, step)), f"{STEPS}.{step}.{key}", shown, rule, remedy))
    return problems


def _dependencies(document: Document, jobs: dict[str, Job], needs: dict[str, list[str]]) -> list[Problem]:
    """sbatch options of a dependent step that the submission would silently override."""
    rule, remedy = "the pipeline decides this", "use the step's `after`"
    return [
        Problem(document.place((STEPS, step)), f"{STEPS}.{step}.slurm.extra", option, rule, remedy)
        for step, job_ in jobs.items()
        for option in job_.spec.slurm.extra
        if needs[step] and option.startswith(("--dependency", "--kill-on-invalid-dep"))
    ]
