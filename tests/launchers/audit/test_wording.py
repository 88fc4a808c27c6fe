"""Drift means that something else would run: another wording of the same is none, and what changed is said in words."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from alignlaunch.launchers.backends import registry
from alignlaunch.launchers.job import pipeline
from alignlaunch.launchers.render import render
from alignlaunch.launchers.submit import steps
from tests.conftest import MINIMAL, Cli

JOB = MINIMAL + "nnodes: 7\nenv: {A: 1, B: x}\ntrain: {learning_rate: 2e-5, max_steps: 3}\n"


def test_the_jobs_own_words_come_first_and_no_digest_is_shown(cli: Cli, folder: Path, job_file: Path) -> None:
    job_file.write_text(MINIMAL + "nnodes: 7\nenv: {A: 1}\ntrain: {learning_rate: 2e-5, max_steps: 3}\n")
    cli("render", job_file, "--target", "bash")
    job_file.write_text(MINIMAL + "nnodes: 7\ntrain: {learning_rate: 1e-5, warmup_steps: 4, max_steps: 3}\n")
    shown = cli("check", folder).stdout.splitlines()
    assert shown[:3] == [
        f"{folder}: train.learning_rate: 2e-05 → 1e-05",
        f"{folder}: train.warmup_steps: not there → 4",
        f'{folder}: env.A: "1" → not there',
    ]
    assert shown[3] == f"--- {folder}/deepspeed.sh"
    assert not re.search("[0-9a-f]{12}", "\n".join(line for line in shown if line[:1] in "+-"))


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + JOB,
        "\n".join(reversed(JOB.splitlines())),
        json.dumps(yaml.safe_load(JOB)).replace('"2e-5"', "2.0e-5"),
        JOB.replace("{A: 1, B: x}", "\n  B: 'x'\n  A: '1'"),
        JOB.replace("2e-5", "0.00002"),
    ],
    ids=["comment", "order", "JSON", "quotes", "number"],
)
def test_another_wording_is_no_drift(cli: Cli, folder: Path, job_file: Path, text: str) -> None:
    job_file.write_text(JOB)
    assert cli("render", job_file).returncode == 0
    job_file.write_text(text)
    done = cli("check", job_file.parent / "launch")
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 clean, 0 drifted" in done.stderr


def test_an_upgrade_that_renders_the_same_is_no_drift_and_what_is_committed_is_submitted(
    cli: Cli, folder: Path, job_file: Path
) -> None:
    """Another version, whose artifacts say in other words where they came from."""
    lock = json.loads((folder / render.LOCK).read_text())
    for name in lock["files"]:
        text = (folder / name).read_text()
        (folder / name).write_text(re.sub("# Made by alignlaunch.*", "# Made by alignlaunch 0.0.9, long ago", text))
        lock["files"][name] = sha256((folder / name).read_bytes()).hexdigest()
    (folder / render.LOCK).write_text(json.dumps(lock | {"alignlaunch": "0.0.9"}))
    assert cli("check", folder).returncode == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert b"long ago" in before["torchrun.sh"]
    loaded = pipeline.load(job_file)
    rendered = steps.render(loaded, registry.of("local"))
    (agreed,) = steps.write(loaded, rendered, accept=False, committed=False, dry=False, say=lambda _: None).values()
    assert {name: text.encode() for name, text in agreed.files.items()} == before
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_lock_that_is_not_of_its_files(cli: Cli, folder: Path) -> None:
    lock = folder / render.LOCK
    before = lock.read_text()
    lock.write_text(before.replace('"torchrun.sh": "', '"torchrun.sh": "0'))
    alone = cli("check", folder)
    assert (alone.returncode, alone.stdout) == (1, f"{lock}: not the digests of the files beside it\n")
    lock.write_text(before.replace('"set": []', '"set": ["nnodes=1"]'))
    assert cli("check", folder).returncode == 0, "says the same, and is what this folder was made with"
