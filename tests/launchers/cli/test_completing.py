"""What TAB offers, as a shell asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from alignlaunch.launchers import cli
from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of two runs, and three profiles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for folder, names in (("config/alignlaunch/clusters", ["prod"]), ("jobs/clusters", ["lab", "prod2"])):
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / f"{name}.yaml").touch()
    done = Status("COMPLETED", 0)
    records.save([Run(f"slurm://a/{n}", name, "", "", status=done) for n, name in ((1, "sft-a"), (2, "orpo-b"))])
    records.save([Run("slurm://a/3", "both-dpo", "", "", pipeline="both/1", status=done)])
    return tmp_path


def offered(*words: str) -> list[str]:
    """For the last word, which is incomplete."""
    completer = ShellComplete(cli.main, {}, "alignlaunch", "_ALIGNLAUNCH_COMPLETE")
    return [item.value for item in completer.get_completions([*words[:-1]], words[-1])]


@pytest.mark.parametrize("command", ["status", "logs", "diagnose", "cancel", "wait", "save", "export", "eval"])
def test_runs_by_name_and_by_handle(command: str) -> None:
    assert set(offered(command, "")) == {"last", "both", "sft-a", "orpo-b", "both-dpo"}
    assert offered(command, "sf") == ["sft-a"]
    assert offered(command, "slurm://a/2") == ["slurm://a/2"]


def test_a_record_that_cannot_be_read_offers_nothing(home: Path) -> None:
    (home / "state/alignlaunch/runs.sqlite").write_bytes(b"no database")
    assert offered("status", "") == []


def test_profiles_of_the_user_and_beside_the_job_file() -> None:
    assert offered("slurm", "jobs/job.yaml", "--cluster", "") == ["lab", "prod", "prod2"]
    assert offered("nodes", "--cluster", "p") == ["prod"]


def test_keys_of_a_job() -> None:
    assert offered("slurm", "job.yaml", "--set", "train.learning_r") == ["train.learning_rate="]
    assert {"lora.r=", "lora.alpha="} <= set(offered("render", "job.yaml", "--set", "lora."))
    assert offered("plan", "job.yaml", "--set", "nn") == ["nnodes="]


def test_the_list_of_profiles(home: Path) -> None:
    (home / "config/alignlaunch/clusters/prod.yaml").write_text("no_such_key: 1\n")
    done = CliRunner().invoke(cli.main, ["profiles"])
    assert done.stdout == f"prod  {home / 'config/alignlaunch/clusters/prod.yaml'}\n"
    assert "no_such_key: unknown key" in done.stderr
    (home / "config/alignlaunch/clusters/prod.yaml").unlink()
    assert "no profile" in CliRunner().invoke(cli.main, ["profiles"]).stderr
