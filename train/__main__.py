"""`python -m alignlaunch.train JOB_RESOLVED_YAML [--deepspeed FILE|none]`, run by every process of a job.

`--eval DIR [--data PATH]` evaluates trained weights instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from . import best, config, finish, imports
from .config import PREFLIGHT_ONLY, TrainConfig
from .errors import UserError
from .outputs.notify import ENDS, telling
from .outputs.recording import recording
from .preflight import passed
from .processes import rendezvous, requests
from .processes.beats import beats
from .processes.rendezvous import Rendezvous

REQUIRED = ("torch", "transformers", "trl", "accelerate", "datasets")
#: Packages that `alignlaunch[train]` does not install, and the extra that does.
EXTRAS = {"bitsandbytes": "quantization", "wandb": "wandb"}


def main() -> None:
    """Run the job in this process and leave with its exit code."""
    requests.listener.start()
    try:
        code = run(sys.argv[1:])
    except UserError as error:
        rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
        if rank == "0" or not error.everywhere:
            print(f"alignlaunch.train: error: {error}", file=sys.stderr)  # noqa: T201 - the process's own words
        else:
            time.sleep(1)  # the first exit makes the launcher end all ranks: let rank 0 print first
        code = finish.BAD_INPUT
    except KeyboardInterrupt:
        print("alignlaunch.train: interrupted", file=sys.stderr)  # noqa: T201
        code = finish.FAILED
    except Exception as error:  # noqa: BLE001 - recorded for torchrun, then exit without waiting
        finish.record_failure(error)
        code = finish.code_of(error)
    recording.end(code)
    telling.ended(code)
    finish.leave(code)


def _say_once(text: str, place: Rendezvous) -> None:
    if place.rank == 0:
        print(f"alignlaunch: {text}", flush=True)  # noqa: T201 - before anything heavy is imported


def run(argv: list[str]) -> int:
    """Train, or with --eval evaluate, what the job file says. Returns the exit code. Raises UserError."""
    options = _parser().parse_args(argv)
    try:
        job = config.load(options.job)
    except ValueError as error:
        raise UserError(str(error)) from error
    place = rendezvous.read(os.environ)
    if not options.eval:
        best.settle(job.choices, os.environ.get("ALIGNLAUNCH_RUN_DIR"), lambda text: _say_once(text, place))
    rendezvous.die_with_launcher(place)
    if not options.eval:
        requests.listener.watch(Path(job.output_dir), place)
        beats.start(place, Path(job.output_dir), job.hang_timeout)
        if place.rank == 0 and not os.environ.get(PREFLIGHT_ONLY):
            recording.start(Path(job.output_dir), place)
            launched = place.dialect != "single" or rendezvous.is_in_slurm_step(os.environ)
            telling.start(job, place.run_id, ends=("completed",) if launched else ENDS)
    if options.eval and place.world_size != 1:
        raise UserError(f"--eval: runs in one process, but {place.world_size} were started. Use no launcher.")
    zero = None if options.eval else _deepspeed_config(job, options)
    _require(job, deepspeed=zero is not None)
    imports.keep_out(imports.unneeded(job, deepspeed=zero is not None))
    rendezvous.initialise(place, int(job.train.get("ddp_timeout", 1800)))
    speed = _first_collective(place, job.preflight_timeout)

    from .reporting import say

    say(
        f"{job.name}: stage {job.stage}, process {place.rank} of {place.world_size} "
        f"({place.dialect}), {place.local_world_size} on this node, restart {place.restart_count}"
    )
    if speed:
        say(speed)
    if os.environ.get(PREFLIGHT_ONLY):
        say(f"{PREFLIGHT_ONLY} is set: preflight passed, nothing was trained")
        return finish.DONE
    # Imported only now, as it takes seconds: a bad job or wrong rank variables are reported before.
    if options.eval:
        from .evaluate import evaluate

        return evaluate(job, options.eval, place, options.data)
    from .session import train

    code = train(job, options.job, place, zero)
    if code == finish.DONE and place.rank == 0:
        passed.remove_mark(job.output_dir)
    return code


def _first_collective(place: rendezvous.Rendezvous, asked: int | None) -> str:
    if place.world_size == 1 or asked == 0:
        return ""
    from .preflight import collectives

    return collectives.check(place, max(asked or 0, 60))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alignlaunch.train", description=__doc__)
    parser.add_argument("job", type=Path, help="job.resolved.yaml; paths in it are relative to the working directory")
    parser.add_argument(
        "--deepspeed", metavar="FILE|none", help="DeepSpeed JSON in place of the job's; `none`: plain DDP"
    )
    parser.add_argument("--eval", metavar="DIR", type=Path, help="evaluate the weights in DIR; train nothing")
    parser.add_argument("--data", metavar="PATH", action="append", default=[], help="data for --eval, not the job's")
    # The deepspeed launcher adds it for older scripts; the variable LOCAL_RANK holds the same.
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)
    return parser


def _deepspeed_config(job: TrainConfig, options: argparse.Namespace) -> dict[str, Any] | None:
    if options.deepspeed == "none" or (options.deepspeed is None and job.deepspeed is None):
        return None
    path = Path(options.deepspeed) if options.deepspeed else options.job.parent / str(job.deepspeed)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"deepspeed: {path}: not a readable JSON file: {error}. Put the ZeRO JSON there, or give --deepspeed FILE."
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"deepspeed: {path}: holds a {type(found).__name__}; a DeepSpeed configuration is an object.")
    return found


def _require(job: TrainConfig, *, deepspeed: bool) -> None:
    wandb = "wandb" in (job.train.get("report_to") or [])
    asked = {
        "deepspeed": deepspeed,
        "peft": job.lora or imports.needs_peft(job.model),
        "wandb": wandb,
        "bitsandbytes": imports.has_bitsandbytes_optimizer(job),
    }
    names = [*REQUIRED, *(name for name, needed in asked.items() if needed)]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({EXTRAS.get(name, "train") for name in missing}))
        raise UserError(
            f"{sys.executable} has no {', '.join(missing)}, which the job needs. Install it on this node with "
            f"`pip install 'alignlaunch[{extras}]'`, or name the right python in the cluster profile."
        )


if __name__ == "__main__":
    main()
