"""Render a job into its files, {file name: text}: a pure function that gives the same bytes on every machine."""

from __future__ import annotations

import json
import os
import re
import shlex
from functools import cache
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml

import alignlaunch
from alignlaunch.train.config import PREFLIGHT_ONLY

from .. import zero
from ..errors import JobFileError
from ..job.job import Job
from ..job.k8s.spec import K8s
from ..paths import PACKAGE
from . import k8s_lint, k8s_manifest, manifests, origin, yamltext

Target = Literal["bash", "slurm", "k8s"]
TARGETS: tuple[Target, ...] = ("bash", "slurm", "k8s")
RESOLVED = "job.resolved.yaml"
LOCK = "alignlaunch.lock"
SBATCH = "job.sbatch"
#: What job.sbatch does when an attempt has ended.
AFTER = "after.sh"
TORCHRUN = "torchrun.sh"
DEEPSPEED = "deepspeed.sh"
CONFIGMAP = "job.configmap.yaml"
#: {kind: file name} of the job's own manifest.
MANIFESTS = {"PyTorchJob": "job.pytorchjob.yaml", "TrainJob": "job.trainjob.yaml"}
#: Characters that are line breaks in YAML: PyYAML writes them unescaped and reads them back as spaces.
_FOLDED = re.compile(r"[\x85\u2028\u2029]")


@cache
def environment() -> jinja2.Environment:
    """The Jinja environment of all templates. A missing value is an error, never an empty string."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PACKAGE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - shell and YAML, not HTML: every value goes through `sh` or `tojson`
    )
    env.filters["tojson"] = yamltext.flow  # Jinja's own is for HTML
    env.filters["block"] = yamltext.block
    env.filters["sh"] = lambda value: shlex.quote(str(value))
    env.filters["heredoc"] = heredoc
    return env


def heredoc(value: str) -> str:
    """Escape text so that an unquoted here-document prints it unchanged, with line breaks as spaces."""
    return re.sub(r"([\\$`])", r"\\\1", re.sub(r"[\r\n]+", " ", value))


def render(job: Job, target: Target, job_path: str) -> dict[str, str]:
    """The files of `launch/<name>/<target>/`. Raises JobFileError for a job that the target cannot run.

    job_path: path of the job file relative to that folder; used only in the lock, for `alignlaunch check`.
    """
    if problems := job.refused.get(target):
        raise JobFileError(problems)
    files = {"bash": _bash, "slurm": _slurm, "k8s": _k8s}[target](job)
    files[LOCK] = lock(job, target, job_path, files)
    return dict(sorted(files.items()))


def targets(job: Job) -> list[Target]:
    """Targets that can run the job: Kubernetes if it names an image; an elastic job runs on Kubernetes only."""
    has_image = job.spec.k8s is not None and job.spec.k8s.image is not None
    return [target for target in TARGETS if (has_image or job.elastic if target == "k8s" else not job.elastic)]


def _slurm(job: Job) -> dict[str, str]:
    slurm = job.spec.slurm
    goes_on = slurm.requeue and slurm.max_requeues > 0
    values = {"exported": exported(job), "preflight": job.preflight_seconds("slurm"), "goes_on": goes_on}
    names = [SBATCH, *([AFTER] if goes_on or job.spec.notify else [])]
    return {name: template(f"slurm/{name}.j2", job, **values) for name in names} | _config(job)


def _config(job: Job) -> dict[str, str]:
    """The files that the training processes read: the resolved job and its DeepSpeed JSON, if any."""
    return {RESOLVED: resolved(job)} | ({job.zero.file_name: job.zero.text} if job.zero else {})


def _k8s(job: Job) -> dict[str, str]:
    """Two manifests. The ConfigMap holds the config files, since `kubectl apply -f` reads each file as a manifest."""
    k8s = job.spec.k8s or K8s()
    values = k8s_manifest.values(job, _config(job))
    name = MANIFESTS[k8s.kind]
    files = {file: template(f"k8s/{file.removeprefix('job.')}.j2", job, **values) for file in (CONFIGMAP, name)}
    if k8s.patch or k8s.pod_patch:
        header = "".join(takewhile(lambda line: line.startswith("#"), files[name].splitlines(keepends=True)))
        patched = manifests.patched(yaml.safe_load(files[name]), k8s)
        files[name] = f"{header}# With `k8s.pod_patch` and `k8s.patch` in it.\n{yamltext.document(patched)}"
    k8s_lint.require(job, [yaml.safe_load(text) for text in files.values()])
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
        "preflight": job.preflight_seconds("bash"),
    }
    files = {name: template(f"bash/{name}.j2", job, script=name, **values) for name in (TORCHRUN, DEEPSPEED)}
    return files | _config(job) | {config.file_name: config.text for config in configs.values()}


def template(name: str, job: Job, **values: Any) -> str:
    """A template filled in with a job, and with these values besides."""
    return (
        environment()
        .get_template(name)
        .render(
            **{"origin": origin.of(job), **values},
            job=job,
            spec=job.spec,
            slurm=job.spec.slurm,
            cluster=job.cluster,
            container=job.cluster.container,
        )
    )


def exported(job: Job) -> list[str]:
    """Variables that sbatch exports from the submitting shell: the run folder, the python environment, the secrets."""
    environment = [] if job.cluster.python or job.cluster.container else ["VIRTUAL_ENV", "CONDA_PREFIX"]
    return [
        "ALIGNLAUNCH_RUN_DIR",
        "ALIGNLAUNCH_PYTHON",
        "ALIGNLAUNCH_BAD_NODES",
        *environment,
        PREFLIGHT_ONLY,
        *job.spec.secrets,
    ]


def resolved(job: Job) -> str:
    header = (
        f"# {origin.of(job)}. Do not edit.\n"
        "# Every key with its value: all that `python -m alignlaunch.train` reads. Paths start from the job's folder.\n"
    )
    header += origin.batch(job)
    text = _yaml(job.resolved(), readable=True)
    if _FOLDED.search(text):
        text = _yaml(job.resolved(), readable=False)
    return header + text


def _yaml(data: dict[str, Any], *, readable: bool) -> str:
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=readable, width=1000)
    return text


def lock(job: Job, target: Target, job_path: str, files: dict[str, str]) -> str:
    """The lock file: what `alignlaunch check` needs to render again, and the sha256 of every file."""
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
