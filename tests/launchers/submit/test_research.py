"""A sweep of a real model on this machine, from its submission to its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import Command
from tests.support.looking import look
from tests.support.tiny import TRAIN, make_model, write_data

from .stub_steps import environment


class Place(Command):
    """A folder with job files, and a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.env = folder, environment(folder)


def test_six_points_of_which_one_fails_and_one_is_interrupted(tmp_path: Path) -> None:
    """On this machine they run one after the other; what is interrupted is submitted again, and goes on."""
    make_model(tmp_path / "model")
    write_data(tmp_path)
    train = TRAIN | {"max_steps": 8, "save_steps": 2, "save_strategy": "steps"}
    points: list[dict[str, Any]] = [
        {"train.learning_rate": rate, "train.seed": seed} for rate in (1e-3, 2e-3) for seed in (1, 2)
    ]
    points += [{"model": "nowhere-to-be-found"}, {"train.learning_rate": 0.0}]
    job = {
        "name": "swept",
        "nproc_per_node": 1,
        "zero": 0,
        "lora": None,
        "stage": "sft",
        "data": {"train": ["sft.jsonl"]},
    }
    job |= {"model": "model", "train": train, "sweep": {"points": points, "max_parallel": 2}}
    (tmp_path / "swept.yaml").write_text(yaml.safe_dump(job))
    user = Place(tmp_path)
    user.call("local", "swept.yaml", "--detach")
    user.call("cancel", "swept+lr0.002-seed2")
    user.call("wait", "swept", code=None)
    assert [one["state"] for one in json.loads(user.call("status", "swept", "--json").stdout)] == [
        *["COMPLETED"] * 3,
        "CANCELLED",
        "FAILED",
        "COMPLETED",
    ]
    look(user, tmp_path, "swept", outputs=True)
    user.call("retry", "swept+lr0.002-seed2")
    assert user.status("swept+lr0.002-seed2")["state"] == "COMPLETED"
