"""`alignlaunch init` as a command: what it asks, what it writes, and that nobody is asked."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from alignlaunch.launchers.job import defaults, yamlfile
from tests.conftest import Cli

from .tools import TWO_GPUS, path_of, says

CONFIG = {
    **{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000},
    **{"intermediate_size": 128, "max_position_embeddings": 256, "tie_word_embeddings": True},
}


def model(folder: Path, config: object = CONFIG, **files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config) if not isinstance(config, str) else config)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A PATH without any tool."""
    return path_of(tmp_path)


@pytest.mark.parametrize("stage", defaults.STAGES)
def test_what_it_writes_is_rendered(cli: Cli, tmp_path: Path, bare: str, stage: str) -> None:
    model(tmp_path / "model")
    (tmp_path / "data.jsonl").touch()
    written = cli("init", stage, "--model", "model", "--data", "data.jsonl", "-o", "job.yaml", PATH=bare)
    assert (written.returncode, written.stdout) == (0, ""), written.stderr
    assert yamlfile.read(tmp_path / "job.yaml").data["model"] == "./model"
    rendered = cli("render", "job.yaml")
    assert rendered.returncode == 0, rendered.stderr
    assert "note:" not in rendered.stderr  # it says all that a note would
    if stage != "safe_dpo":  # whose reward models are yours to name
        assert "not on this machine" not in cli("slurm", "job.yaml", "--dry-run").stderr


def test_init_writes_a_file_once(cli: Cli, tmp_path: Path, bare: str) -> None:
    assert cli("init", "orpo", "-o", "job.yaml", PATH=bare).returncode == 0
    assert (tmp_path / "job.yaml").read_text() == cli("init", "orpo", PATH=bare).stdout
    assert yamlfile.read(tmp_path / "job.yaml").data["stage"] == "orpo"
    again = cli("init", "sft", "-o", "job.yaml")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    nowhere = cli("init", "sft", "-o", "absent/job.yaml", PATH=bare)
    assert (nowhere.returncode, "No such file" in nowhere.stderr) == (2, True)
    unknown = cli("init", "ppo")
    assert (unknown.returncode, "remedy: one of orpo, rm" in unknown.stderr) == (2, True)


def test_it_fits_the_model_and_the_machine(cli: Cli, tmp_path: Path) -> None:
    model(tmp_path / "models/tiny", tokenizer_config__json=json.dumps({"chat_template": "{{ messages }}"}))
    path = path_of(tmp_path, nvidia_smi=says(TWO_GPUS))
    done = cli("init", "sft", "--model", "models/tiny", PATH=path, CUDA_VISIBLE_DEVICES="0,1")
    lines = {line.split(":")[0].strip(): line for line in done.stdout.splitlines()}
    # 64,000 embeddings, 2 layers of 16,384 + 24,576 + 128, and a last norm of 64
    assert lines["model"].endswith("[llama, 146,240 parameters, reads up to 256 tokens, with a chat template]")
    assert lines["nproc_per_node"].endswith("[2 GPUs here (CUDA_VISIBLE_DEVICES)]")
    assert lines["max_length"].split("#")[0].strip() == "max_length: 256"
    assert "note:" not in done.stderr


def test_paths_are_from_here_and_stand_in_the_file_as_from_its_folder(cli: Cli, tmp_path: Path, bare: str) -> None:
    model(tmp_path / "models/tiny")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "data").mkdir()
    cli("init", "sft", "--model", "models/tiny", "--data", tmp_path / "data", "-o", "jobs/job.yaml", PATH=bare)
    data = yamlfile.read(tmp_path / "jobs/job.yaml").data
    assert (data["model"], data["data"]["train"]) == ("../models/tiny", [str(tmp_path / "data")])
    away = cli("init", "sft", "--model", "org/name", "--data", "./gone", "-o", "jobs/away.yaml", PATH=bare)
    data = yamlfile.read(tmp_path / "jobs/away.yaml").data
    assert (away.returncode, data["model"], data["data"]["train"]) == (0, "org/name", ["../gone"])
    assert "note: --data: ./gone is not here; it is written down all the same" in away.stderr
    assert "note: --model: org/name: neither a folder here nor in" in away.stderr


@pytest.mark.parametrize("config", ["", "[]", "{}", "[" * 100_000, json.dumps({**CONFIG, "hidden_size": "many"})])
def test_a_model_that_cannot_be_read_costs_a_note(cli: Cli, tmp_path: Path, bare: str, config: str) -> None:
    model(tmp_path / "model", config)
    done = cli("init", "sft", "--model", "model", PATH=bare)
    assert (done.returncode, "note: --model: " in done.stderr, "Traceback" in done.stderr) == (0, True, False)
    assert "model: ./model " in done.stdout


@pytest.mark.parametrize("context", ["long", True, -1, 0, None, 1e99])
def test_a_context_that_is_none_changes_nothing(cli: Cli, tmp_path: Path, bare: str, context: object) -> None:
    model(tmp_path / "model", {**CONFIG, "max_position_embeddings": context})
    done = cli("init", "sft", "--model", "model", PATH=bare)
    assert (done.returncode, "max_length: 2048" in done.stdout) == (0, True), done.stderr


def test_unprintable_names_are_refused(cli: Cli) -> None:
    for option in ("--model", "--data"):
        refused = cli("init", "sft", option, "a\nb: c")
        assert (refused.returncode, "not printable text" in refused.stderr) == (2, True)


def test_tools_that_fail_cost_a_note(cli: Cli, tmp_path: Path) -> None:
    path = path_of(tmp_path, nvidia_smi=says("hello\n", 1), sinfo="echo sinfo: error: down >&2; exit 1")
    environment = {"PATH": path, **({"CUDA_VISIBLE_DEVICES": ""} if "CUDA_VISIBLE_DEVICES" in os.environ else {})}
    done = cli("init", "sft", **environment)
    assert (done.returncode, "note: sinfo: error: down; nothing in the file follows from it" in done.stderr) == (
        0,
        True,
    )
    assert "nproc_per_node: 1 " in done.stdout


def test_a_terminal_changes_no_byte(cli: Cli, tmp_path: Path, bare: str) -> None:
    piped = cli("init", "dpo", "-o", "piped.yaml", PATH=bare)
    assert piped.returncode == 0
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "alignlaunch.launchers.cli", "init", "dpo", "-o", "terminal.yaml"],
            cwd=tmp_path,
            env={**os.environ, "PATH": bare},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            timeout=60,
            check=True,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (tmp_path / "terminal.yaml").read_bytes() == (tmp_path / "piped.yaml").read_bytes()
