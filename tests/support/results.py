"""Runs that have ended, as their files and the record have them: for what looks at results, and not at training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from alignlaunch.launchers.runs import records
from alignlaunch.launchers.runs.records import Run, Status

BEGIN = 1795867302.0


def write(folder: Path, name: str, lines: Iterable[str], *, state: str = "COMPLETED", **job: Any) -> Run:
    """A run in `folder`, also in the record (XDG_STATE_HOME's). lines: of metrics.jsonl. job: its resolved one."""
    run_dir, output = folder / "runs" / f"{name}-20261128-120122-7fcc", folder / "output" / name
    for path in (run_dir, output):
        path.mkdir(parents=True)
    resolved = {"name": name, "stage": "sft", "output_dir": str(output), **job}
    (run_dir / "job.resolved.yaml").write_text(yaml.safe_dump(resolved, allow_unicode=True), encoding="utf-8")
    (run_dir / "run.json").write_text(json.dumps({"name": name, "git_commit": "1f2e3d", "git_dirty": False}))
    with (output / "metrics.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    (output / ".run").write_text(str(run_dir))
    (output / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in _timeline(str(run_dir))))
    status = Status(state, 0 if state == "COMPLETED" else 1)
    run = Run(f"local://{run_dir.name}", name, str(run_dir), "", str(output), submitted_at="", status=status)
    records.save([run])
    return run


def curve(count: int, *, seed: int = 0, every: int = 0) -> Iterable[str]:
    """Lines of a run of so many steps, one each; an evaluation after each `every` steps."""
    yield line(0, count, event="started")
    for step in range(1, count + 1):
        wave = math.sin(step * 12.9898 + seed) * 43758.5453 % 1  # what looks like noise, and is the same each time
        loss = 0.5 + 3 * math.exp(-5 * step / count) + 0.3 * wave
        yield line(
            step,
            count,
            loss=round(loss, 4),
            grad_norm=1 + wave**2,
            learning_rate=2e-5 * (1 - step / count),
            epoch=step / count,
            tokens_per_second=round(9000 + 500 * wave, 1),
            samples_per_second=round(30 + wave, 3),
            memory_peak_gib=33.25,
        )
        if every and step % every == 0:
            yield line(step, count, eval_loss=0.6 + 3 * math.exp(-5 * step / count), eval_runtime=3.2)


def line(step: int, max_steps: int, **values: Any) -> str:
    """One line of metrics.jsonl."""
    return json.dumps({"step": step, "max_steps": max_steps, "time": BEGIN + step} | values)


def _timeline(run: str) -> Iterable[dict[str, Any]]:
    yield {"time": BEGIN, "run": run, "queued": BEGIN - 10, "began": BEGIN, "nodes": "n[1-2]", "last": None}
    yield {"time": BEGIN + 5, "phase": "training", "step": 0}
    yield {"time": BEGIN + 85, "phase": "end", "step": 10, "outcome": "completed"}
