"""Make a `Job` from a job file and a cluster profile: read, override, fill in defaults, check."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from .. import zero as zeros
from ..errors import JobFileError, Problem, UsageError
from ..zero import ZeroConfig, ZeroError
from . import (
    batch,
    checkpoint,
    defaults,
    fitted,
    judges,
    legacy,
    misplaced,
    naming,
    rules,
    schema,
    step_outputs,
    variant,
    yamlfile,
    zero_rules,
)
from . import cluster as clusters
from .cluster import Cluster
from .job import Job, origin
from .k8s import patch
from .k8s import rules as k8s_rules
from .spec import JobSpec
from .yamlfile import Document


def load(path: Path, overrides: tuple[str, ...] = (), cluster_name: str | None = None) -> Job:
    """Read a job file, override keys, fill in defaults and check it.

    overrides: `a.b=c`, the value read as YAML; they make a variant of the job. Raises JobFileError with every problem,
    UsageError for a bad override.
    """
    document = read(path)
    for override_ in overrides:
        override(document, override_, override_)
    return of(document, overrides, cluster_name)


def of(document: Document, overrides: tuple[str, ...], cluster_name: str | None) -> Job:
    """The job of a file to which `overrides` were applied. As `load`."""
    job = build(document, overrides, cluster_name, known=step_outputs.stray(document))
    return variant.of(job, _committed(Path(document.name), cluster_name), overrides) if overrides else job


def _committed(path: Path, cluster_name: str | None) -> Job | None:
    """The job file alone; None if it is no whole job without `--set`."""
    try:
        return load(path, (), cluster_name)
    except JobFileError:
        return None


def read(path: Path) -> Document:
    """The job file without defaults. Raises JobFileError, UsageError."""
    # Rendered shell scripts contain the name in a comment, which a line break would end.
    if not path.name.isprintable():
        raise UsageError(f"{path.name!r}: a job file's name must be printable text\n    remedy: rename it")
    return yamlfile.read(path)


def build(
    document: Document,
    overrides: tuple[str, ...],
    cluster_name: str | None,
    *,
    earlier: Sequence[Job] = (),
    known: Sequence[Problem] = (),
    **more: Any,
) -> Job:
    """A job from a document to which `overrides` were applied: fill in defaults and check. Raises as `load`.

    earlier: the jobs of a pipeline before it. known: problems that the caller found already. more: for the `Job`.
    """
    settled = batch.settle(document)
    draft = deepcopy(document) if settled.is_open else document
    job = _build(document, overrides, cluster_name, known=[*known, *settled.problems], **more)
    if not settled.is_open:
        return _told(job, settled.why) if settled.why else job
    any_strategy = not {"zero", "offload"} & document.data.keys()
    refusal: JobFileError | None = None
    for keys, why in fitted.choices(job, origin(job, earlier), any_strategy=any_strategy):
        again = deepcopy(draft)
        for key, value in keys.items():
            legacy.put(again, tuple(key.split(".")), value, draft.place(batch.PATH))
        try:
            return _told(_build(again, overrides, cluster_name, known=known, **more), why)
        except JobFileError as error:  # a strategy that does not go with another key, such as the launcher
            refusal = refusal or error
    raise refusal or AssertionError("there is at least one choice")


def _told(job: Job, why: str) -> Job:
    """The job, and how its batch came about."""
    size, processes = job.effective_batch_size, f"{job.world_size} process{'es' * (job.world_size > 1)}"
    fewest = f" ({size * job.elastic[0] // job.elastic[1]} with {job.elastic[0]} of the nodes)" if job.elastic else ""
    each = f"micro-batch {job.per_device_batch_size} x accumulation {job.accumulation_steps} x {processes}"
    said = f"{each} = {size}{fewest}: {why}"
    return replace(job, batch=said, notes=[*job.notes, f"train.{batch.KEY}: {said}"])


def _build(
    document: Document,
    overrides: tuple[str, ...],
    cluster_name: str | None,
    *,
    known: Sequence[Problem] = (),
    **more: Any,
) -> Job:
    path = Path(document.name)
    cluster = Cluster()
    cluster_data: dict[str, Any] = {}
    if cluster_name:
        cluster, cluster_data = clusters.load(clusters.find(cluster_name, path.parent))

    notes, problems = legacy.apply(document)
    problems += known
    stage = document.data.get("stage")
    data = document.data
    if isinstance(stage, str) and stage in defaults.STAGES:
        notes += defaults.notes(stage, data)
        data = defaults.merged(stage, data)
        _fit_to_data(data, document)
        problems += checkpoint.apply(document, data)
        problems += rules.trainer_arguments(stage, document, data)
    else:
        data = {"nnodes": 1, "nproc_per_node": 1, "launcher": "torchrun", "zero": 0, **data}
    name_notes, name_problems = naming.fill(document, data)
    notes, problems = name_notes + notes, problems + name_problems
    _take_from_cluster(data, cluster_data)
    data.setdefault("output_dir", f"output/{data.get('name')}")
    if data.get("lora") is False:
        data["lora"] = None
    if isinstance(data.get("data"), dict):
        _as_lists(data["data"])
    problems += misplaced.take(document, data)
    problems += schema.check(JobSpec, document, data)
    problems += rules.environment(document, data)
    problems += rules.notify(document, data)
    problems += rules.sbatch_options(document, data)
    zero = None
    if not [p for p in problems if p.key in ("zero", "offload")]:
        zero, zero_problems = _zero_config(document, data, path.parent)
        problems += zero_problems
    problems += rules.combinations(document, data)
    problems += checkpoint.tiers(document, data, path.parent)
    problems += rules.sources(document, data.get("data"))
    problems += rules.best_model(document, data)
    problems += judges.check(document, data)
    if problems:
        raise JobFileError(in_order(problems))
    job = Job(
        spec=msgspec.convert(_in_one_order(data), JobSpec),
        cluster=cluster,
        path=path,
        cluster_name=cluster_name,
        overrides=overrides,
        zero=zero,
        notes=notes,
        **more,
    )
    return replace(job, refused=k8s_rules.refused(document, job))


def _in_one_order(value: Any) -> Any:
    """The same maps with their keys sorted: the order of a job file's lines says nothing, and changes no artifact."""
    if isinstance(value, dict):
        return {key: _in_one_order(value[key]) for key in sorted(value)}
    return [_in_one_order(item) for item in value] if isinstance(value, list) else value


def in_order(problems: list[Problem]) -> list[Problem]:
    """Problems sorted by file and line, those of --set last; without repeats (a key can break one rule twice)."""
    return sorted({str(problem): problem for problem in problems}.values(), key=_place)


def _place(problem: Problem) -> tuple[bool, str, int, int]:
    match = re.fullmatch(r"(.*):(\d+):(\d+)", problem.place)
    return (False, match[1], int(match[2]), int(match[3])) if match else (True, "", 0, 0)


def override(document: Document, assignment: str, given: str) -> None:
    """Apply `a.b=c` to the document. `given`: the text after --set as the user wrote it, maybe with a step's name."""
    key, equals, text = assignment.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", key):
        raise UsageError(f"--set {given}: not KEY=VALUE\n    remedy: for example --set train.max_steps=10")
    if not text.isascii() and text.encode(errors="ignore").decode() != text:
        raise UsageError(f"--set {given!a}: not UTF-8 text\n    remedy: write it as UTF-8")
    # `given` becomes a problem's place, which is printed and logged.
    if rules.looks_secret(key.rpartition(".")[2]) or key.startswith("notify"):
        given = f"{given.partition('=')[0]}=..."
    legacy.put(document, tuple(key.split(".")), yamlfile.parse_value(text, key), f"--set {given}")


def _take_from_cluster(data: dict[str, Any], cluster: dict[str, Any]) -> None:
    """Fill in the cluster profile's keys; the job's own win. `slurm.extra` is the profile's list, then the job's."""
    for key in ("slurm", "env"):
        below, above = cluster.get(key, {}), data.get(key, {})
        if isinstance(above, dict):
            data[key] = {**below, **above}
    if isinstance(cluster.get("k8s"), dict) and isinstance(data.get("k8s", {}), dict):
        data["k8s"] = patch.merge(cluster["k8s"], data.get("k8s", {}))
    below, above = cluster.get("slurm", {}).get("extra"), data.get("slurm", {})
    if below and isinstance(above, dict) and isinstance(above["extra"], list) and above["extra"] is not below:
        above["extra"] = [*below, *above["extra"]]


def _as_lists(data: dict[str, Any]) -> None:
    """The documents write several folders as `train: a,b`; the schema expects a list."""
    for key in ("train", "validation"):
        if isinstance(data.get(key), str):
            data[key] = [part.strip() for part in data[key].split(",") if part.strip()]


def _fit_to_data(data: dict[str, Any], document: Document) -> None:
    """Remove the stage's evaluation defaults if there is no validation data."""
    sources, train = data.get("data"), data.get("train")
    if not isinstance(sources, dict) or not isinstance(train, dict):
        return
    if not sources.get("validation") and sources.get("validation_share") is None:
        for key in ("eval_strategy", "eval_steps"):
            if ("train", key) not in document.values:
                train.pop(key, None)


def _zero_config(document: Document, data: dict[str, Any], job_dir: Path) -> tuple[ZeroConfig | None, list[Problem]]:
    try:
        if isinstance(data["zero"], str):
            path = job_dir / data["zero"]
            zero = zeros.custom(path, data.get("offload", "none"))
            return zero, zero_rules.check(str(path), zero, data)
        return zeros.named(data["zero"], data.get("offload", "none")), []
    except ZeroError as error:
        return None, [Problem(document.place((error.key,)), error.key, data.get(error.key), error.rule, error.remedy)]
