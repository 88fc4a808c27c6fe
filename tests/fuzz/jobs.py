"""Job files, overrides, cluster profiles, pipeline files, DeepSpeed files and locks: what a person or git brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import pipeline
from alignlaunch.launchers.render import render
from tests.conftest import MINIMAL

from .target import Target
from .values import altered, damaged, scalars

_ROOT = Path(__file__).parents[2]
_FILES = sorted([*(_ROOT / "tests/goldens/jobs").glob("*.yaml"), *(_ROOT / "examples").glob("*.yaml")])
SWEEP = {
    "over": {"train.learning_rate": {"min": 1e-6, "max": 1e-4, "log": True}, "train": {"seed": [1, 2]}},
    "points": [{"nnodes": 2}],
    "random": {"count": 3, "seed": 1},
}
JOBS = [path.read_bytes() for path in _FILES] + [f"{MINIMAL}sweep: {json.dumps(SWEEP)}\n".encode()]
PROFILES = [path.read_bytes() for path in sorted((_ROOT / "tests/goldens/jobs/clusters").glob("*.yaml"))]
ZERO = [path.read_bytes() for path in sorted((_ROOT / "zero_configs").glob("*.json"))]
LOCKS = [path.read_bytes() for path in sorted((_ROOT / "tests/goldens").glob("*/*/alignlaunch.lock"))]
PIPELINE = {
    "name": "all",
    "jobs": {
        "sft": {"job": "sft.yaml", "train": {"max_steps": 3}, "output_dir": "o/sft"},
        "rm": {"stage": "rm", "model": "${sft.output}", "data": {"train": ["p"]}, "after": ["sft"]},
        "dpo": {
            "stage": "dpo",
            "model": "${sft.output}",
            "data": {"train": ["p"]},
            "after": ["rm"],
            "zero": 2,
            "sweep": {"over": {"train.beta": [0.1, 0.2]}, "points": [{"lora": {"r": 4}}], "max_parallel": 2},
        },
        "on": {"stage": "orpo", "model": "${dpo.best(eval_loss).output}", "data": {"train": ["p"]}},
    },
}


def plain(texts: list[bytes]) -> st.SearchStrategy[Any]:
    """What the YAML or JSON texts say, with other values here and there."""
    return st.sampled_from([yaml.safe_load(text) for text in texts]).flatmap(altered)


def text_of(value: Any) -> bytes:
    """A file's content: bytes as they are, data as JSON, which is YAML, too."""
    if isinstance(value, bytes):
        return value
    return json.dumps(value).encode("utf-8", errors="surrogatepass")


def load_and_write(folder: Path, *overrides: str, cluster: str | None = None, name: str = "job.yaml") -> None:
    """All that `alignlaunch render` does."""
    for job in pipeline.load(folder / name, overrides, cluster).jobs.values():
        for target in render.targets(job):
            files = drift.artifacts(job, target, drift.folder_of(job, target))
            drift.ensure(drift.folder_of(job, target), files, accept=True)


def _job(folder: Path, value: Any) -> None:
    (folder / "job.yaml").write_bytes(text_of(value))


def _with_profile(folder: Path, value: Any) -> None:
    (folder / "job.yaml").write_text(MINIMAL + "k8s: {image: r/i:1}\n")
    (folder / "clusters").mkdir()
    (folder / "clusters/lab.yaml").write_bytes(text_of(value))


def _pipeline(folder: Path, value: Any) -> None:
    _job(folder, value)
    (folder / "sft.yaml").write_text(MINIMAL)


def _zero(folder: Path, value: Any) -> None:
    (folder / "job.yaml").write_text(MINIMAL + "zero: ds.json\n")
    (folder / "ds.json").write_bytes(text_of(value))


def _lock(folder: Path, value: Any) -> None:
    (folder / "job.yaml").write_text(MINIMAL)
    (folder / "launch/tiny/bash").mkdir(parents=True)
    (folder / "launch/tiny/bash/alignlaunch.lock").write_bytes(text_of(value))


def _check_and_render(folder: Path, value: Any) -> None:
    del value
    launched = folder / "launch/tiny/bash"
    for one in drift.locked_folders(folder / "launch"):
        try:
            drift.check(one)
        finally:
            drift.write(launched, {"torchrun.sh": "echo"})


_keys = st.sampled_from(["train.learning_rate", "env.A", "name", "data.train", "zero", "x", "k8s.image", "slurm.extra"])
_overrides = st.lists(
    st.one_of(st.text(max_size=20), st.builds("{}={}".format, _keys, scalars)), min_size=1, max_size=3
)

TARGETS = {
    "job files, as text": Target(damaged(JOBS), lambda folder, _: load_and_write(folder), _job),
    "job files, as data": Target(plain(JOBS), lambda folder, _: load_and_write(folder), _job),
    "--set": Target(
        _overrides,
        lambda folder, given: load_and_write(folder, *given),
        lambda folder, _: _job(folder, MINIMAL.encode()),
    ),
    "profiles, as text": Target(damaged(PROFILES), lambda f, _: load_and_write(f, cluster="lab"), _with_profile),
    "profiles, as data": Target(plain(PROFILES), lambda f, _: load_and_write(f, cluster="lab"), _with_profile),
    "pipeline files, as text": Target(
        damaged([json.dumps(PIPELINE, indent=1).encode()]), lambda folder, _: load_and_write(folder), _pipeline
    ),
    "pipeline files, as data": Target(altered(PIPELINE), lambda folder, _: load_and_write(folder), _pipeline),
    "DeepSpeed files": Target(damaged(ZERO) | plain(ZERO), lambda folder, _: load_and_write(folder), _zero),
    "lock files": Target(damaged(LOCKS) | plain(LOCKS), _check_and_render, _lock),
}
