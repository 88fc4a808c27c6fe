"""Secrets in the submitting shell reach the processes, and nothing that is written, printed or shown by `ps`."""

from __future__ import annotations

import json

import pytest

from tests.support.planted import Planted
from tests.support.tiny import TRAIN

from .cli import Login

TRAINED = TRAIN | {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}


@pytest.mark.parametrize("place", ["slurm", "local"])
def test_a_planted_secret_is_nowhere(trainer: Login, place: str) -> None:
    name = f"planted-{place}"
    nodes = {"nnodes": 2, "nproc_per_node": 1}
    trainer.write_job(
        name, lora=None, secrets=["HF_TOKEN", "WANDB_API_KEY"], output_dir=f"output/{name}", train=TRAINED, **nodes
    )
    options = ["--cluster", "private", "--wait"] if place == "slurm" else []
    clean = dict(trainer.env)
    with Planted("HF_TOKEN", "WANDB_API_KEY") as planted:
        trainer.env |= planted.env
        try:
            done = trainer.call(place, f"{name}.yaml", *options)
        finally:
            trainer.env = clean
    assert "alignlaunch.train" in planted.arrived  # the processes had them, or this shows nothing
    assert bool(planted.tokens) == (place == "slurm")
    shown = [trainer.call(command, name).stdout for command in ("status", "logs", "diagnose")]
    said = [done.stdout, done.stderr, *shown, trainer.call("status", name, "--json").stdout]
    made = trainer.folder / f"launch/{name}"
    (run,) = (trainer.folder / "runs").glob(f"{name}-*")
    record = trainer.folder / "state"
    planted.require_hidden([made, run, record, trainer.folder / f"output/{name}"], said)
    assert json.loads((run / "run.json").read_text())["secrets"] == ["HF_TOKEN", "WANDB_API_KEY"]
