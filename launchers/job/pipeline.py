"""The pipeline file: several jobs, each of which runs after the jobs that it depends on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from ..errors import JobFileError, Problem, UsageError
from . import jobfile, legacy, naming, schema, step_outputs, variant
from . import sweep as sweeps
from .job import Job, Step, origin
from .pipeline_spec import PipelineSpec, StepSpec
from .yamlfile import STEPS, Document, dotted


@dataclass(frozen=True)
class Pipeline:
    """Jobs by step name, each after the steps it needs. A single job file becomes a pipeline of one step."""

    name: str | None  # None: a single job file
    path: Path
    jobs: dict[str, Job]
    needs: dict[str, list[str]]  # step → the steps that must succeed first
    # A step that is a sweep → its points in `jobs`; "": the whole file is one.
    sweeps: dict[str, list[str]] = field(default_factory=dict)

    def required(self, step: str) -> list[str]:
        """The steps that must succeed before this one: not the points of which the best that there is is taken."""
        job = self.jobs[step]
        chosen = {os.path.normpath(job.dir / folder) for choice in job.choices for folder in choice.among}
        return [one for one in self.needs[step] if _output_of(self.jobs[one]) not in chosen]

    def origin(self, job: Job) -> Job:
        """The first job of the chain that leads to `job`, in which each starts from its predecessor's output model."""
        return origin(job, self.jobs.values())


def load(path: Path, overrides: tuple[str, ...] = (), cluster_name: str | None = None) -> Pipeline:
    """Read and check a pipeline file (which has the key `jobs`) or a job file.

    overrides: `STEP.a.b=c`; for a job file `a.b=c`; they make variants. Raises JobFileError with every problem of
    every step, UsageError.
    """
    document = jobfile.read(path)
    if STEPS not in document.data:
        return _of_job_file(path, document, overrides, cluster_name)
    problems = schema.check(PipelineSpec, document, document.data)
    entries = _entries(document, problems)
    drafts = {step: draft for step in entries if (draft := _draft(document, step, entries[step], problems))}
    committed = _committed(path, cluster_name) if overrides else {}
    given = _override(entries, drafts, overrides)
    needs = _needs(entries, drafts, problems)

    jobs: dict[str, Job] = {}
    points: dict[str, list[str]] = {}  # a step that is a sweep → its points
    before: dict[str, list[str]] = {}  # step → all steps that end before it starts, also indirectly
    for step in TopologicalSorter(needs).static_order():
        before[step] = list(dict.fromkeys(earlier for need in needs[step] for earlier in (*before[need], need)))
        if step not in drafts:
            continue
        draft, references = drafts[step], step_outputs.find(drafts[step])
        folder = Path(draft.name).parent
        outputs = {f"{name}.output": step_outputs.of(jobs[name], folder) for name in before[step] if name in jobs}
        of_sweeps = {name: [jobs[one] for one in points[name]] for name in points}
        choices = step_outputs.choices(references, of_sweeps, folder)
        outputs |= {name: choice.link for name, choice in choices.items()}
        step_outputs.fill(draft, outputs)
        more: dict[str, Any] = {"upcoming": tuple(outputs.values()), "choices": tuple(choices.values())}
        more["earlier"] = tuple(jobs.values())
        try:
            if draft.data.get(sweeps.SWEEP) is not None:
                earlier = [one for name in before[step] for one in points.get(name, [name]) if one in jobs]
                if any(jobs[one].varies for one in earlier):  # they have other output folders
                    given[step] += [f"{dotted(at)}=" for at, _ in references]
                made = sweeps.jobs(draft, Step(path, step), overrides, cluster_name, given=given[step], **more)
                points[step] = [*made]
                jobs |= made
                continue
            is_the_file = entries[step].data.keys() <= {"job", "after"} and not (overrides or references)
            of_step = None if is_the_file else Step(path, step)
            jobs[step] = jobfile.build(draft, overrides, cluster_name, step=of_step, **more)
        except JobFileError as error:
            problems += error.problems
        else:
            if overrides:  # also of an earlier step: its variant has another output folder
                jobs[step] = variant.of(jobs[step], committed.get(step), given[step])
    needs = {
        job: [one for need in needs[step] for one in points.get(need, [need])]
        for step in before
        for job in points.get(step, [step])
    }
    problems += _collisions(document, jobs) + _dependencies(document, jobs, needs)
    if problems:
        raise JobFileError(jobfile.in_order(problems))
    return Pipeline(document.data["name"], path, jobs, needs, points)


def _of_job_file(path: Path, document: Document, overrides: tuple[str, ...], cluster_name: str | None) -> Pipeline:
    """A job file: one job, or a sweep's points."""
    for override in overrides:
        jobfile.override(document, override, override)
    if document.data.get(sweeps.SWEEP) is not None:
        points = sweeps.jobs(document, Step(path, ""), overrides, cluster_name, given=overrides)
        name = next(iter(points.values())).family
        return Pipeline(name, path, points, {point: [] for point in points}, {"": [*points]})
    alone = jobfile.of(document, overrides, cluster_name)
    return Pipeline(None, path, {alone.spec.name: alone}, {alone.spec.name: []})


def _override(
    entries: dict[str, Document], drafts: dict[str, Document], overrides: tuple[str, ...]
) -> dict[str, list[str]]:
    """Apply `STEP.a.b=c` to the steps' drafts. Returns {step: its overrides, without its name}."""
    given: dict[str, list[str]] = {step: [] for step in entries}
    for override in overrides:
        step, _, assignment = override.partition(".")
        if step not in entries:
            raise UsageError(f"--set {override}: not STEP.KEY=VALUE\n    remedy: STEP is one of {', '.join(entries)}")
        given[step].append(assignment)
        if step in drafts:
            jobfile.override(drafts[step], assignment, override)
    return given


def _output_of(job: Job) -> str:
    return os.path.normpath(job.dir / job.spec.output_dir)


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
        if not naming.is_name(step):
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
        keys.setdefault("name", f"{name}-{step}" if naming.is_name(name) else step)
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
            is_sweep = reference[1] in drafts and drafts[reference[1]].data.get(sweeps.SWEEP) is not None
            if fault := step_outputs.fault(reference, is_sweep=is_sweep):
                problems.append(begin._replace(rule=fault[0], remedy=fault[1]))
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


def _collisions(document: Document, jobs: dict[str, Job]) -> list[Problem]:
    """Steps that would overwrite each other's artifacts or output."""
    problems: list[Problem] = []
    owners: dict[tuple[str, str], str] = {}
    for step, job_ in jobs.items():
        for key, is_at in (("name", job_.spec.name), ("output_dir", _output_of(job_))):
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
