"""docs/report-*.png: a report of real runs in a real browser. `python -m bench.report_pictures docs`.

A tiny model is trained with ORPO (two learning rates), DPO, and safe DPO, each by `alignlaunch local`; of one run the
process is killed on its way, and torchrun starts another one. Then the report is opened in Chromium: in light and dark,
and as on a phone. Minutes; needs the training packages.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import yaml
from PIL import Image
from tests.support import browser, tiny

TRAIN = {
    **tiny.TRAIN,
    **{"max_steps": 60, "learning_rate": 2e-3, "lr_scheduler_type": "cosine", "logging_steps": 1},
    **{"eval_strategy": "steps", "eval_steps": 10, "save_strategy": "steps", "save_steps": 20, "save_total_limit": 1},
}
LORA = {"r": 4, "alpha": 8}
REWARDS = {"helpful_reward_model": "models/helpful", "harmless_reward_model": "models/harmless"}
SAFE = {"objective": "lagrangian", "scores": "live", **REWARDS, "eval_generate": 4, "eval_max_new_tokens": 12}
#: Name, stage, data, what its `train:` says besides TRAIN.
JOBS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("orpo-slow", "orpo", "pairs", {"learning_rate": 1e-3}),
    ("orpo-fast", "orpo", "pairs", {"learning_rate": 4e-3}),
    ("dpo", "dpo", "pairs", {}),
    ("safe", "safe_dpo", "safe", SAFE),
)
KILLED = "orpo-fast"
#: Width and height in pixels, whether dark, whether touched.
SCREENS = {"light": (1280, 1500, False, False), "dark": (1280, 1500, True, False), "phone": (390, 1500, False, True)}


def main() -> None:
    """Train, report, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures are written")
    parser.add_argument("--work", type=Path, help="a folder for the runs, kept; one that has them is used again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alignlaunch-pictures-") as scratch:
        work = (options.work or Path(scratch)).resolve()
        os.environ["XDG_STATE_HOME"] = str(work / "state")
        if not (work / "models").exists():
            train(work)
        page = work / "report.html"
        alignlaunch(work, "report", *(name for name, *_ in JOBS), "-o", str(page)).wait()
        draw(page, options.folder)


def train(work: Path) -> None:
    """All of JOBS, one after the other."""
    for folder in ("data", "models"):
        (work / folder).mkdir(parents=True)
    tiny.write_data(work / "data")
    tiny.make_model(work / "models/tiny")
    for seed, name in enumerate(("helpful", "harmless"), start=1):
        tiny.make_reward_model(work / "models" / name, work / "models/tiny", seed)
    for name, stage, data, changes in JOBS:
        job = {
            **{"name": name, "stage": stage, "model": "models/tiny", "lora": LORA, "zero": 0},
            "nproc_per_node": 2 if name == KILLED else 1,  # torchrun, which starts processes again, is for several
            "data": {"train": [f"data/{data}.jsonl"], "validation": [f"data/{data}_eval.jsonl"]},
            "train": {**TRAIN, **changes},
        }
        (work / f"{name}.yaml").write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
        launched = alignlaunch(work, "local", f"{name}.yaml", "--no-data-check")
        if name == KILLED:
            kill_at(work, name, step=30)
        if launched.wait():
            raise SystemExit(f"{name} ended with {launched.returncode}")


def kill_at(work: Path, name: str, step: int) -> None:
    """Kill the process that trains once it has logged this step."""
    metrics = work / "output" / name / "metrics.jsonl"
    while not metrics.exists() or f'"step": {step}' not in metrics.read_text(encoding="utf-8"):
        time.sleep(0.02)
    min((one for one in psutil.process_iter() if _trains(one, work)), key=lambda one: one.create_time()).kill()


def _trains(process: psutil.Process, work: Path) -> bool:
    """Whether it is a rank of a run here, or was started by one."""
    try:
        env = process.environ()
    except psutil.Error:  # it has ended, or is another user's
        return False
    return bool(env.get("LOCAL_RANK") == "0" and env.get("ALIGNLAUNCH_RUN_DIR", "").startswith(str(work)))


def alignlaunch(work: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "alignlaunch.launchers.cli", *arguments], cwd=work)


def draw(page: Path, folder: Path) -> None:
    """A picture of each screen."""
    with browser.browser(browser.require()) as tab:
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        for name, (width, height, dark, touch) in SCREENS.items():
            tab.look(width, height, dark=dark, touch=touch)
            tab.open(page)
            tab.until(
                "[...document.querySelectorAll('.plot')].slice(0, 3).every(one => one.querySelector('.main-svg'))"
            )
            time.sleep(1)  # the last ones that are on the screen
            picture = Image.open(BytesIO(tab.picture())).convert("RGB").quantize(128)  # a third of the bytes
            picture.save(folder / f"report-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
