"""Time to the end of the first step, at 1 and at 2 processes: our rendered script and a hand-written TRL script.

    python -m bench.first_step [--write docs/first-step.md]

Ours is the script that `alignlaunch local` starts, as it is rendered, with preflight before torchrun; theirs is started
by torchrun, at one process by python. Both train the same LoRA on the same records; the clock starts with the script.
"""

from __future__ import annotations

import platform
import shutil
import statistics
import subprocess
import sys
from functools import partial
from typing import Any

import yaml

from bench import made_page, train, trainers

ROUNDS = 3
AIM = 1.0
SETTINGS: dict[str, Any] = {"max_steps": 1, "gradient_accumulation_steps": 1}
NAME = "first-step"

PAGE = """<!-- Made by `python -m bench.first_step --write docs/first-step.md`. Do not edit. -->
# Time to the first step

SFT of SmolLM2-135M with LoRA r=8, {batch} x {length} tokens a process, from the start of the script to the end of the
first step. Ours is `launch/<name>/bash/torchrun.sh` as rendered, which `alignlaunch local` starts, with its preflight
at more than one process; the other a script by hand with TRL, started by `torchrun`, at one process by `python`.
{rounds} rounds, the two sides in turn; medians, and of the ratios the least and the most. CPU ({machine}), DDP by gloo.
"""


def main() -> None:
    made_page.main(__doc__, page)


def page() -> str:
    """The page."""
    train.PLACE.mkdir(parents=True, exist_ok=True)
    train.make_data()
    text = PAGE.format(
        batch=train.TRAIN["per_device_train_batch_size"],
        length=train.TRAIN["max_length"],
        rounds=ROUNDS,
        machine=platform.machine(),
    )
    head = ("processes", "ours, s", "TRL script, s", "ours / TRL (spread)", "aim")
    return text + "\n".join(made_page.table(head, [row(processes) for processes in (1, 2)])) + "\n"


def row(processes: int) -> list[str]:
    """A row of the table."""
    pairs = [(ours(processes), theirs(processes)) for _ in range(ROUNDS)]
    print(f"{processes} process(es): {pairs}", file=sys.stderr, flush=True)
    seconds = [f"{statistics.median(pair[side] for pair in pairs):.1f}" for side in (0, 1)]
    return [str(processes), *seconds, trainers.spread([a / b for a, b in pairs]), f"<= {AIM}"]


def ours(processes: int) -> float:
    """Seconds of the rendered script."""
    job = {
        "name": NAME,
        "stage": "sft",
        "model": str(train.MODEL),
        "data": {"train": ["equal.jsonl"], "cache_dir": f"cache-{NAME}"},
        "output_dir": f"out/{NAME}",
        "nproc_per_node": processes,
        "zero": 0,
        "lora": {"r": train.LORA["r"], "alpha": train.LORA["lora_alpha"], "dropout": train.LORA["lora_dropout"]},
        "train": {key: value for key, value in (train.TRAIN | SETTINGS).items() if key != "disable_tqdm"},
    }
    (train.PLACE / f"{NAME}.yaml").write_text(yaml.safe_dump(job))
    for folder in (f"cache-{NAME}", f"out/{NAME}"):  # the other side tokenises anew as well
        shutil.rmtree(train.PLACE / folder, ignore_errors=True)
    render = [sys.executable, "-m", "alignlaunch.launchers.cli", "render", f"{NAME}.yaml", "--target", "bash"]
    subprocess.run(render, cwd=train.PLACE, check=True, capture_output=True)

    script = ["env", f"ALIGNLAUNCH_PYTHON={sys.executable}", "bash", f"launch/{NAME}/bash/torchrun.sh"]
    return train.timed(script, partial(train.logged, NAME))[0]


def theirs(processes: int) -> float:
    """Seconds of the hand-written script."""
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes > 1 else []
    return train.theirs(*torchrun, **SETTINGS)[0]


if __name__ == "__main__":
    main()
