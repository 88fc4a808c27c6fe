"""The stages' defaults are valid, sourced, and what `init` writes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import defaults, jobfile, rules, starter, yamlfile
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


@every_stage
def test_the_starter_is_a_valid_job_equal_to_the_defaults(tmp_path: Path, stage: Stage) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(starter.text(stage))
    started = jobfile.load(path, (VALIDATION,)).resolved()
    path.write_text(MINIMAL)
    same = ("name", "model", "output_dir")
    overrides = tuple(f"{key}={started[key]}" for key in same)
    overrides += (f"stage={stage}", "data.train=[../data/train]", VALIDATION, *NEEDED.get(stage, ()))
    bare = jobfile.load(path, overrides).resolved()
    assert started == bare


@every_stage
def test_the_starters_commented_keys_are_keys_too(tmp_path: Path, stage: Stage) -> None:
    """Taking the `#` away must give a valid job."""
    lines = []
    for line in starter.text(stage).splitlines():
        bare = line.lstrip()
        key = bare.removeprefix("# ")
        is_key = bare.startswith("# ") and not bare[2:3].isupper() and ": " in key and " " not in key.partition(":")[0]
        lines.append(line.replace("# ", "", 1) if is_key and "yaml-language-server" not in line else line)
    path = tmp_path / "job.yaml"
    path.write_text("\n".join(lines).replace("offload: optimizer ", "offload: none"))
    loaded = jobfile.load(path)
    assert (loaded.spec.tokenizer, loaded.spec.time) == ("../output/tokenizers_merge", "12:00:00")
    assert loaded.spec.data.validation == ["../data/eval"]
    assert loaded.spec.slurm.partition == "gpu"


@every_stage
def test_the_starter_names_the_schema_first_and_each_source(stage: Stage) -> None:
    first, *rest = starter.text(stage).splitlines()
    assert first == "# yaml-language-server: $schema=alignlaunch.schema.json"
    for default in defaults.for_stage(stage):
        name = default.key.rpartition(".")[2]
        assert any(line.strip().startswith(f"{name}: ") and line.endswith(f"# {default.source}") for line in rest), name


def test_an_unknown_stage() -> None:
    with pytest.raises(UsageError, match="remedy: one of orpo, rm, sft, pt, dpo, safe_dpo"):
        starter.text("ppo")


def test_init_writes_a_file_once(cli: Cli, tmp_path: Path) -> None:
    assert cli("init", "orpo", "-o", "job.yaml").returncode == 0
    assert (tmp_path / "job.yaml").read_text() == cli("init", "orpo").stdout
    assert yamlfile.read(tmp_path / "job.yaml").data["stage"] == "orpo"
    again = cli("init", "sft", "-o", "job.yaml")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    nowhere = cli("init", "sft", "-o", "absent/job.yaml")
    assert (nowhere.returncode, "No such file" in nowhere.stderr) == (2, True)


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
