"""A tiny model, tiny data, and real runs of the entrypoint in one or two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.support.tiny import make_llava, make_model, make_reward_model, say, write_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job file's folder: `model/`, `helpful/` and `harmless/` (reward models), and `tiny.write_data`'s files."""
    place = tmp_path_factory.mktemp("workplace")
    make_model(place / "model")
    for seed, name in enumerate(("helpful", "harmless"), 1):
        make_reward_model(place / name, place / "model", seed)
    write_data(place)
    for stage in (1, 2, 3):
        (place / f"zero{stage}.json").write_text(json.dumps(zero_json(stage)))
    return place


@pytest.fixture(scope="session")
def gallery(workplace: Path) -> Path:
    """The workplace, with a tiny LLaVA in `llava/`, six pictures and data that name them."""
    make_llava(workplace / "llava", workplace / "model")
    pictures = workplace / "pictures"
    pictures.mkdir()
    names = [f"pictures/{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (20 + 9 * i, 30), (40 * i, 255 - 40 * i, 128)).save(workplace / name)
    seen = [
        {
            "messages": [{"role": "user", "content": say(i, 3)}, {"role": "assistant", "content": say(3 * i, 2 + i)}],
            "images": [name],
        }
        for i, name in enumerate(names)
    ]
    pairs = [
        {
            "question": say(i, 3),
            "response_chosen": say(i + 1, 2 + i),
            "response_rejected": say(i + 7, 6 - i),
            "image": name,
        }
        for i, name in enumerate(names)
    ]
    safe = [
        {
            "prompt": say(i, 3),
            "response_0": say(i + 1, 2 + i),
            "response_1": say(i + 7, 6 - i),
            "better_response_id": i % 2,
            "safer_response_id": i % 3 % 2,
            "images": [name, names[-1]][: 1 + i % 2],
        }
        for i, name in enumerate(names)
    ]
    for file, records in (
        ("seen", seen * 4),
        ("seen_eval", seen[:5]),
        ("seen_pairs", pairs * 4),
        ("seen_pairs_eval", pairs[:5]),
        ("seen_safe", safe * 4),
        ("seen_safe_eval", safe[:5]),
    ):
        (workplace / f"{file}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return workplace


def zero_json(stage: int) -> dict[str, Any]:
    """A DeepSpeed configuration as zero_configs/ has it; but stage 3 shards the tiny parameters, too."""
    sharded = {"stage3_gather_16bit_weights_on_model_save": True, "stage3_param_persistence_threshold": 0}
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "zero_optimization": {"stage": stage} | (sharded if stage == 3 else {}),
    }


#: Names in metrics.jsonl of what two equal runs do not have in common.
MEASURED, MEASURED_ENDS = ("step", "time", "memory_peak_gib", "mfu"), ("_runtime", "_per_second")


@dataclass(frozen=True)
class Finished:
    """A run that ended."""

    code: int
    stdout: str
    stderr: str
    output_dir: Path

    def records(self) -> list[dict[str, Any]]:
        """metrics.jsonl."""
        return [json.loads(line) for line in (self.output_dir / "metrics.jsonl").read_text().splitlines()]

    def values(self, after: int = 0) -> dict[str, str]:
        """Every value of metrics.jsonl after a step, as JSON; not what depends on the clock or the machine.

        Nor the last record of an attempt that was stopped.
        """
        return {
            f"step {record['step']}: {name}": json.dumps(value)
            for record in self.records()
            if "event" not in record and ("train_loss" not in record or record["step"] == record["max_steps"])
            for name, value in record.items()
            if record["step"] > after and name not in MEASURED and not name.endswith(MEASURED_ENDS)
        }

    def logged(self, name: str) -> list[float]:
        """One metric over the run."""
        return [record[name] for record in self.records() if name in record]


DATA = {"pt": "texts.jsonl", "sft": "sft.jsonl", "safe_dpo": "safe.jsonl"}
Runner = Callable[..., Finished]


def write_job(workplace: Path, name: str, **changes: Any) -> Path:
    """A resolved job in `workplace`; `changes` replace top-level keys, but add to `train`."""
    stage = changes.get("stage", "sft")
    train = {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "report_to": "none",
        "bf16": False,
        "seed": 3,
    } | changes.pop("train", {})
    job = {
        "name": name,
        "stage": stage,
        "model": "model",
        "data": {"train": [DATA.get(stage, "pairs.jsonl")], "cache_dir": "cache"},
        "output_dir": f"out/{name}",
        "train": train,
    } | changes
    path = workplace / "runs" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(job))
    return path


def launcher(nproc: int) -> list[str]:
    """Arguments of python that start so many processes of a module on this machine; none for one process."""
    return ["-m", "alignlaunch.train.torchrun", "--standalone", f"--nproc-per-node={nproc}"] if nproc > 1 else []


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """That of a run which no launcher has started, and `more`."""
    outer = ("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    return clean | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | (more or {})


@pytest.fixture(scope="session")
def run_job(workplace: Path) -> Runner:
    """Run a job in real processes: one alone, or several under torchrun."""

    def run(
        name: str, *, nproc: int = 1, zero: str | None = None, env: dict[str, str] | None = None, **changes: Any
    ) -> Finished:
        job = write_job(workplace, name, **changes)
        command = [sys.executable, *launcher(nproc), "-m", "alignlaunch.train", str(job)]
        if zero:
            command += ["--deepspeed", zero]
        done = subprocess.run(
            command, cwd=workplace, env=environment(env), capture_output=True, text=True, timeout=300, check=False
        )
        return Finished(done.returncode, done.stdout, done.stderr, workplace / "out" / name)

    return run


def run_program(workplace: Path, program: str, job: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run Python text that is the entrypoint with something in it replaced, in one process."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(job), *options]
    return subprocess.run(command, cwd=workplace, env=env, capture_output=True, text=True, check=False)
