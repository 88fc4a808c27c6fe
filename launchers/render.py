"""Job → artifacts: {file name: text}, a pure function. The same job gives the same bytes on every machine."""

from __future__ import annotations

import json
import os
import re
import shlex
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml

import alignlaunch

from . import zero
from .job import Job
from .paths import PACKAGE

Target = Literal["bash", "slurm"]
TARGETS: tuple[Target, ...] = ("bash", "slurm")
RESOLVED = "job.resolved.yaml"
LOCK = "alignlaunch.lock"
SBATCH = "job.sbatch"
TORCHRUN = "torchrun.sh"
DEEPSPEED = "deepspeed.sh"
#: Line breaks to YAML: PyYAML writes them as they are, and reads them back as spaces.
_FOLDED = re.compile(r"[\x85\u2028\u2029]")


@cache
def environment() -> jinja2.Environment:
    """The one Jinja environment. A value that is missing is an error, never an empty string."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PACKAGE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - shell, not HTML: every value goes through `sh`
    )
    env.filters["sh"] = lambda value: shlex.quote(str(value))
    env.filters["heredoc"] = heredoc
    return env


def heredoc(value: str) -> str:
    """Text that an unquoted here-document prints as it is, on one line."""
    return re.sub(r"([\\$`])", r"\\\1", re.sub(r"[\r\n]+", " ", value))


def render(job: Job, target: Target, job_path: str) -> dict[str, str]:
    """The files of `launch/<name>/<target>/`.

    job_path: the job file as seen from that folder; it only stands in the lock, for `alignlaunch check`.
    """
    files = _bash(job) if target == "bash" else _slurm(job)
    files[RESOLVED] = _resolved(job)
    files[LOCK] = lock(job, target, job_path, files)
    return dict(sorted(files.items()))


def _slurm(job: Job) -> dict[str, str]:
    files = {SBATCH: _template("slurm/job.sbatch.j2", job, exported=_exported(job))}
    if job.zero:
        files[job.zero.file_name] = job.zero.text
    return files


def _bash(job: Job) -> dict[str, str]:
    configs = zero.for_every_stage(job.spec.offload)
    if job.zero:
        configs[job.zero.stage] = job.zero
    values: dict[str, Any] = {
        "zero_configs": dict(sorted(configs.items())),
        "default_stage": job.zero.stage if job.zero else 0,
        "per_device": job.per_device_batch_size,
        "accumulation": job.accumulation_steps,
    }
    files = {name: _template(f"bash/{name}.j2", job, script=name, **values) for name in (TORCHRUN, DEEPSPEED)}
    return files | {config.file_name: config.text for config in configs.values()}


def _template(name: str, job: Job, **values: Any) -> str:
    template = environment().get_template(name)
    return template.render(
        version=alignlaunch.__version__,
        job=job,
        spec=job.spec,
        slurm=job.spec.slurm,
        cluster=job.cluster,
        container=job.cluster.container,
        **values,
    )


def _exported(job: Job) -> list[str]:
    """Variables that sbatch takes from the submitting shell: the run's own two, and the secrets by name."""
    return ["ALIGNLAUNCH_RUN_DIR", "ALIGNLAUNCH_PYTHON", *job.spec.secrets]


def _resolved(job: Job) -> str:
    header = (
        f"# Made by alignlaunch {alignlaunch.__version__} from {job.path.name} (sha256 {job.digest}). Do not edit.\n"
        "# Every key with its value: all that `python -m alignlaunch.train` reads. Paths start from the job's folder.\n"
    )
    text = _yaml(job.resolved(), readable=True)
    if _FOLDED.search(text):
        text = _yaml(job.resolved(), readable=False)
    return header + text


def _yaml(data: dict[str, Any], *, readable: bool) -> str:
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=readable, width=1000)
    return text


def lock(job: Job, target: Target, job_path: str, files: dict[str, str]) -> str:
    """What `check` needs to render again, and the sha256 of every file."""
    content = {
        "alignlaunch": alignlaunch.__version__,
        "target": target,
        "job": {"path": job_path, "sha256": job.digest},
        "cluster": {"name": job.cluster_name, "sha256": job.cluster_digest} if job.cluster_name else None,
        "set": list(job.overrides),
        "files": {name: digest(text) for name, text in sorted(files.items())},
    }
    if job.step:
        pipeline = os.path.relpath(job.step.pipeline, job.dir)
        content["pipeline"] = {"path": os.path.normpath(Path(job_path).parent / pipeline), "step": job.step.name}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
