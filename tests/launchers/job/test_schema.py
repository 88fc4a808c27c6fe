"""`alignlaunch schema` agrees with the validation itself."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from alignlaunch.launchers.job import defaults, jsonschema, yamlfile
from alignlaunch.launchers.starter import text
from alignlaunch.train.config import Stage

ROOT = Path(__file__).parents[3]
JOBS = [*sorted((ROOT / "tests" / "goldens" / "jobs").glob("*.yaml")), *sorted((ROOT / "examples").glob("*.yaml"))]
PIPELINES = sorted((ROOT / "examples").glob("**/*-chain.yaml"))
PROFILES = sorted((ROOT / "tests" / "goldens" / "jobs" / "clusters").glob("*.yaml"))
validators: Any = pytest.importorskip("jsonschema")


@cache
def validator(of: jsonschema.Kind) -> Any:
    schema = json.loads(jsonschema.text(of))
    kind = validators.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def errors(data: Any, of: jsonschema.Kind = "job") -> list[str]:
    return [error.message for error in validator(of).iter_errors(data)]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_job_files_validate(path: Path) -> None:
    assert errors(yamlfile.read(path).data) == []


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_pipelines_validate(path: Path) -> None:
    assert errors(yamlfile.read(path).data, "pipeline") == []


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_cluster_profiles_validate(path: Path) -> None:
    assert errors(yamlfile.read(path).data, "cluster") == []


@pytest.mark.parametrize("stage", defaults.STAGES)
def test_starters_validate(stage: Stage) -> None:
    assert errors(yamlfile.parse(text.of(stage), "job.yaml").data) == []


BASE = {"name": "tiny", "stage": "sft", "model": "m", "data": {"train": ["d"]}}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "A b"},
        {"name": 3},
        {"stage": "ppo"},
        {"modle": "m"},
        {"data": ["d"]},
        {"data": {"train": []}},
        {"data": {"validation": ["d"]}},
        {"data": {"train": [{"weight": 1}]}},
        {"data": {"train": [{"path": "d", "weight": 0}]}},
        {"data": {"train": ["d"], "validation_share": 1}},
        {"nnodes": 0},
        {"zero": 4},
        {"lora": {"rank": 8}},
        {"lora": True},
        {"train": {"learning_rate": "fast"}},
        {"train": {"eval_strategy": "sometimes"}},
        {"time": "tomorrow"},
        {"slurm": {"partition": "a b"}},
        {"slurm": {"partitoin": "a"}},
        {"secrets": "HF_TOKEN"},
        {"nnodes": "two"},
        {"k8s": {"imaeg": "a"}},
        {"k8s": {"volumes": {"a": {"pvc": "a"}}}},
        {"k8s": {"volumes": {"a": {"pvc": "a", "mount_path": "/a", "sub_path": "b/../.."}}}},
        {"k8s": {"restart_policy": "Sometimes"}},
        {"k8s": {"memory": "64 GB"}},
    ],
    ids=str,
)
def test_bad_jobs_do_not(change: dict[str, Any]) -> None:
    assert errors(BASE) == []
    assert errors(BASE | change)


STEP = {"stage": "sft", "model": "m", "data": {"train": ["d"]}}


@pytest.mark.parametrize(
    ("step", "good"),
    [
        (STEP, True),
        ({"job": "sft.yaml", "model": "${a.output}", "after": ["a"], "train": {"objective": "dpo"}}, True),
        (STEP | {"after": "a"}, False),
        (STEP | {"train": {"learning_rate": "fast"}}, False),
        ({"model": "m"}, False),
        ({"job": "sft.yaml", "modle": "m"}, False),
    ],
    ids=str,
)
def test_steps_of_a_pipeline(step: dict[str, Any], good: bool) -> None:
    assert (errors({"name": "chain", "jobs": {"a": step}}, "pipeline") == []) is good


@pytest.mark.parametrize("key", BASE)
def test_required_keys(key: str) -> None:
    """All but the name, which is the file's."""
    found = errors({name: value for name, value in BASE.items() if name != key})
    assert bool(found) is (key != "name")


@pytest.mark.parametrize(
    "change",
    [
        {"lora": False},
        {"lora": None},
        {"data": {"train": "a,b"}},
        {"data": {"train": ["a", {"path": "b", "weight": 0.3, "columns": {"prompt": "q"}}]}},
        {"zero": "ds.json"},
        {"nnodes": "2:4"},
        {"k8s": None},
        {"k8s": {"cpu": "500m", "volumes": {"a": {"pvc": "a", "mount_path": "/a", "sub_path": "b..c/.d"}}}},
    ],
    ids=str,
)
def test_every_form_that_is_read_validates(change: dict[str, Any]) -> None:
    assert errors(BASE | change) == []


@pytest.mark.parametrize(
    "profile",
    [{"gpus": 3}, {"k8s": {"kind": "MPIJob"}}, {"device": "tpu"}, {"container": {"runtime": "docker", "image": "x"}}],
    ids=str,
)
def test_bad_profiles_do_not(profile: dict[str, Any]) -> None:
    assert errors(profile, "cluster")


@pytest.mark.parametrize("of", get_args(jsonschema.Kind))
def test_patterns_are_javascripts_too(of: jsonschema.Kind) -> None:
    r"""Editors run them as JavaScript, to which `\Z` is the letter Z."""
    assert "\\Z" not in jsonschema.text(of)


@pytest.mark.parametrize("of", get_args(jsonschema.Kind))
def test_every_key_is_described_by_a_sentence(of: jsonschema.Kind) -> None:
    definitions = json.loads(jsonschema.text(of))["$defs"]
    bare = [
        (name, key)
        for name, definition in definitions.items()
        if not name.startswith("train_")  # the trainers' own arguments
        for key, schema in definition["properties"].items()
        if not schema.get("description", "").endswith(".")
    ]
    assert bare == []


@pytest.mark.parametrize("stage", defaults.STAGES)
def test_the_schema_has_the_stages_defaults(stage: Stage) -> None:
    """msgspec's own schema lacks those of nnodes, launcher and zero, and has those of `Lora`, which a stage changes."""
    schema = json.loads(jsonschema.text("job"))
    conditions = schema["$defs"]["JobSpec"]["allOf"]
    (found,) = (each["then"] for each in conditions if each["if"]["properties"]["stage"]["const"] == stage)
    found["properties"]["train"] = schema["$defs"][f"train_{stage}"]
    for default in defaults.for_stage(stage):
        node = found
        for part in default.key.split("."):
            node = node["properties"][part]
        assert node["default"] == default.value
