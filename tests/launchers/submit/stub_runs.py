"""Runs of this machine that sleep, with records of a training."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import yaml

from .stub_steps import call


def submit(place: Path, name: str, losses: list[float], act: str = "sleep") -> None:
    """A run that has come to a step for each loss, of 9, one a second. act: what it does."""
    job: dict[str, Any] = {"name": name, "stage": "sft", "model": "./base", "data": {"train": ["hub/data"]}}
    job |= {"env": {"ACT": act}, "nproc_per_node": 1, "zero": 0, "output_dir": f"./{name}"}
    (place / f"{name}.yaml").write_text(yaml.safe_dump(job))
    handle = call(place, "local", f"{name}.yaml", "--cluster", "stub", "--detach").stdout.split()[-1]
    output = place / name
    output.mkdir(exist_ok=True)
    folder = str(place / "runs" / handle.rpartition("/")[2])
    (output / ".run").write_text(folder)
    now = time.time()
    begun = {"time": now, "run": folder, "queued": None, "began": now, "nodes": "here", "last": None}
    (output / "timeline.jsonl").write_text(json.dumps(begun) + "\n")
    speed = {"tokens_per_second": 1234.4, "mfu": 0.413}
    records = [
        {"step": step, "max_steps": 9, "time": now + step, "loss": loss, **speed}
        for step, loss in enumerate(losses, start=1)
    ]
    (output / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
