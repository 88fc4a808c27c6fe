"""`alignlaunch data`: a job's records as they will be trained, as reported by a subprocess of the training python."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from .errors import LaunchError, UsageError
from .job.job import Job
from .job.pipeline import Pipeline
from .render import render

MODULE = "alignlaunch.train.show"
BRIGHT, PLAIN = "\x1b[1;32m", "\x1b[0m"


def of(job: Job, pipeline: Pipeline, *, records: int, sample: int) -> dict[str, Any]:
    """The report of `alignlaunch.train.show` on the job. If that fails, it has printed its own message to stderr.

    Raises UsageError or LaunchError, as its exit code says.
    """
    origin = pipeline.origin(job)
    if origin is not job and not (job.dir / job.spec.model).exists():  # not trained yet: take the first model's
        model = os.path.relpath(origin.dir / origin.spec.model, job.dir)
        job = dataclasses.replace(job, spec=msgspec.structs.replace(job.spec, model=model))
    python = os.environ.get("ALIGNLAUNCH_PYTHON") or job.cluster.python or sys.executable
    with tempfile.TemporaryDirectory(prefix="alignlaunch-") as scratch:
        path = Path(scratch) / render.RESOLVED
        path.write_text(render.resolved(job), encoding="utf-8")
        command = [python, "-m", MODULE, str(path), "--records", str(records), "--sample", str(sample)]
        try:
            done = subprocess.run(command, cwd=job.dir, stdout=subprocess.PIPE, text=True, check=False)
        except OSError as error:
            remedy = "name the training python in ALIGNLAUNCH_PYTHON"
            raise UsageError(f"{python}: {error.strerror}\n    remedy: {remedy}") from error
    if done.returncode:
        kind = UsageError if done.returncode == UsageError.exit_code else LaunchError
        raise kind(f"{job.path}: {MODULE} ended with exit code {done.returncode}, see above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def text(found: dict[str, Any], *, colour: bool) -> str:
    """The report as text. Tokens that count in the loss are coloured, or in [[ ]] without colours."""
    marks = (BRIGHT, PLAIN) if colour else ("[[", "]]")
    lines = [line for role, sources in found["data"].items() for line in _role(role, sources, marks)]
    limits = {name: value for name, value in found["arguments"].items() if name != "seed"}
    lines.append("limits: " + ", ".join(f"{name} {json.dumps(value)}" for name, value in limits.items()))
    if found["arguments"].get("packing"):
        lines.append("the sequences are packed into blocks of max_length tokens")
    return "\n".join(lines)


def _role(role: str, sources: list[dict[str, Any]], marks: tuple[str, str]) -> list[str]:
    lines: list[str] = []
    for source in sources:
        for record in source["shown"]:
            lines += _record(record, marks)
        whole = "all" if source["complete"] else "the first"
        lines.append(f"data.{role}: {source['path']}: {whole} {source['records']} records")
        lines += [f"    read as {form}: {count}" for form, count in source["formats"].items()]
        if source["tokens"]:
            for what in ("tokens", "learnt_tokens"):
                low, few, middle, many, high = source[what]
                name = f"{what.replace('_', ' ')} a sequence"
                lines.append(f"    {name}: {low} to {high}, median {middle}, 5 % to 95 %: {few} to {many}")
        lines.append(f"    truncated: {source['truncated']}")
        lines += [f"    dropped: {count}: {why}" for why, count in source["dropped"].items()]
        if source["left_out"]:
            lines.append(f"    left out: {source['left_out']}, by max_train_samples or max_eval_samples")
        if source["bad"]:
            lines.append(f"    bad: {source['bad']}")
            lines += [f"        {bad}" for bad in source["bad_records"]]
    return lines


def _record(record: dict[str, Any], marks: tuple[str, str]) -> list[str]:
    lines = [f"{record['place']}: {record['format']}"]
    if record["why"]:
        lines.append(f"    dropped: {record['why']}")
    for sequence in record["sequences"]:
        about = (
            f"{sequence['tokens']} tokens, {sequence['learnt_tokens']} learnt"
            if "tokens" in sequence
            else (f"with {', '.join(sequence['images'])}; tokenised with its images")
        )
        lines.append(f"    {sequence['name'] + ': ' if sequence['name'] else ''}{about}")
        shown = "".join(
            f"{marks[0]}{part['text']}{marks[1]}" if part["learnt"] else part["text"] for part in sequence["parts"]
        )
        lines += [f"    | {line}" for line in shown.split("\n")]
    return lines
