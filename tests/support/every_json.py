"""What each command prints with `--json`, of real runs of this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import yaml

from alignlaunch.launchers.cli import shapes

from .command import Command
from .tiny import TRAIN, make_model, write_data
from .waiting import until


class Place(Command):
    """A folder with job files and a cluster profile, and a home of its own."""

    def __init__(self, folder: Path) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "ALIGNLAUNCH"))}
        home = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config")}
        self.folder, self.env = folder, {**inherited, **home, "HF_HUB_OFFLINE": "1"}

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What the command prints, read."""
        return json.loads(self.call(*arguments, "--json", code=code).stdout)


def hold(command: str, found: Any) -> None:
    """Fail unless what a command printed has exactly the keys and types of its shape: none more, none less."""
    msgspec.convert(found, shapes.PRINTED[command], strict=True)


def printed(folder: Path) -> dict[str, Any]:
    """Command → what it printed, of a run that trained to its end, and of a sweep that is saved and cancelled."""
    place = _place(folder)
    told: dict[str, Any] = {"local": place.json("local", "short.yaml", "--cluster", "lab")}
    place.call("local", "endless.yaml", "--cluster", "lab", "--detach")
    for name in ("status", "describe", "diagnose", "compare", "eval"):
        options = ["--goodput"] if name == "status" else []
        told[name] = place.json(name, "short", *options)
    lines = place.call("logs", "short", "--json", "--tail", "3").stdout.splitlines()
    told["logs"] = json.loads(lines[-1])
    told["save"] = place.json("save", "endless")
    until(lambda: place.json("status", "endless")[0]["progress"] is not None)
    told["list"] = place.json("list")
    told["cancel"] = place.json("cancel", "endless")
    told["wait"] = place.json("wait", "short")
    told["retry"] = place.json("retry", "short")
    over = ("--over", "train.seed=1", "--on", "local")
    told["sweep"] = place.json("sweep", "short.yaml", "--cluster", "lab", *over)
    told["render"] = place.json("render", "short.yaml", "--target", "slurm")
    told["check"] = place.json("check")
    told["gc"] = place.json("gc", "--older-than", "0m")
    told["nodes"] = place.json("nodes", "--add", "n7", "--cause", "its GPU 3 fell off the bus")
    told["profiles"] = place.json("profiles")
    told["plan"] = place.json("plan", "short.yaml", "--cluster", "lab")
    told["data"] = place.json("data", "short.yaml")
    return told


def _place(folder: Path) -> Place:
    make_model(folder / "model")
    write_data(folder)
    (folder / "clusters").mkdir()
    (folder / "clusters/lab.yaml").write_text(yaml.safe_dump({"device": "cpu", "gpu_memory_gib": 80}))
    data = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"]}
    job = {"stage": "sft", "model": "model", "data": data, "nproc_per_node": 1, "zero": 0, "lora": None}
    for name, steps in (("short", 3), ("endless", 1_000_000)):
        job["train"] = TRAIN | {"max_steps": steps, "logging_steps": 1, "eval_strategy": "no"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**job, "name": name}))
        job["sweep"] = {"over": {"train.seed": [1, 2]}}
    return Place(folder)
