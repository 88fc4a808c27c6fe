"""The stages' defaults are valid, sourced, and applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.job import defaults, jobfile, rules, yamlfile
from alignlaunch.train.config import Stage
from tests.conftest import MINIMAL, Cli

from .job_files import NEEDED

every_stage = pytest.mark.parametrize("stage", defaults.STAGES)
VALIDATION = "data.validation=[v]"  # without it the evaluation defaults do not apply


@every_stage
def test_each_default_reaches_the_resolved_job(tmp_path: Path, stage: Stage) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(MINIMAL)
    resolved: Any = jobfile.load(path, (f"stage={stage}", VALIDATION, *NEEDED.get(stage, ()))).resolved()
    for default in defaults.for_stage(stage):
        value = resolved
        for part in default.key.split("."):
            value = value[part]
        assert (value, type(value)) == (default.value, type(default.value)), default.key


@every_stage
def test_each_default_has_one_value_and_a_source(stage: Stage) -> None:
    table = defaults.for_stage(stage)
    keys = [default.key for default in table]
    assert len(keys) == len(set(keys))
    documents = ("ORPO", "RM", "SFT", "DeepSpeed", "DDP", "§", "script", "alignlaunch")
    assert [default for default in table if not default.source.startswith(documents)] == []


@every_stage
def test_train_defaults_are_arguments_of_the_stage(stage: Stage) -> None:
    known = rules.trainer_args()["stages"][stage]
    used = {
        default.key.removeprefix("train.") for default in defaults.for_stage(stage) if default.key.startswith("train.")
    }
    assert used <= set(known)


def test_an_explicit_null_replaces_a_whole_map() -> None:
    assert defaults.merged("sft", {"lora": None})["lora"] is None
    assert defaults.merged("sft", {"lora": {"r": 1}})["lora"] == {
        "r": 1,
        "alpha": 16,
        "dropout": 0.05,
        "target_modules": "all",
    }


@pytest.mark.parametrize(
    ("stage", "given", "key", "falls_away"),
    [
        ("orpo", {"train": {"num_train_epochs": 3}}, "max_steps", True),
        ("orpo", {"train": {"num_train_epochs": 3, "max_steps": 7}}, "max_steps", False),
        ("orpo", {"lora": None}, "learning_rate", True),
        ("pt", {"lora": False}, "learning_rate", True),
        ("pt", {"lora": {"r": 4}}, "learning_rate", False),
        ("sft", {"lora": None}, "learning_rate", False),  # the document's, for every weight
        ("orpo", {"train": {"max_length": 2048}}, "max_prompt_length", True),
    ],
)
def test_what_the_user_gives_displaces_the_defaults_that_contradict_it(
    tmp_path: Path, stage: Stage, given: dict[str, Any], key: str, falls_away: bool
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(MINIMAL)
    document = yamlfile.read(path)
    document.data |= {"stage": stage} | given
    job = jobfile.build(document, (), None)
    assert (key not in job.resolved()["train"]) == falls_away
    assert any("is not used because of" in note and key in note for note in job.notes) == falls_away


def test_where_little_is_trained_by_default_that_is_said(job_file: Path, cli: Cli) -> None:
    said = cli("local", job_file, "--set", "stage=orpo", "--dry-run").stderr
    assert "data.max_train_samples: 1000 is the stage's default (ORPO §5), not set in the job file" in said
    assert "train.max_steps: 100 is the stage's default (ORPO §5), not set in the job file" in said
    mine = ("--set", "data.max_train_samples=1000", "--set", "train.max_steps=100")
    said = cli("local", job_file, "--set", "stage=orpo", *mine, "--dry-run").stderr
    assert "max_train_samples: 1000 is" not in said
    assert "max_steps: 100 is" not in said
