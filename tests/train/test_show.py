"""`alignlaunch data`: what is shown is what is trained, told by the very functions that training uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train import show
from alignlaunch.train.config import Data, TrainConfig
from alignlaunch.train.model import loading
from alignlaunch.train.stages import registry
from tests.support.tiny import say

from .conftest import DATA, ROOT

STAGES = ("pt", "sft", "rm", "dpo", "orpo", "safe_dpo")


def job_of(place: Path, stage: Any, **changes: Any) -> TrainConfig:
    given: dict[str, Any] = {"model": str(place / "model"), "output_dir": "out", "name": "x", "stage": stage}
    file = str(place / DATA.get(stage, "pairs.jsonl"))
    return TrainConfig(**(given | {"data": Data(train=[file])} | changes))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_shown_as_its_trainer_encodes_it(workplace: Path, stage: Any, tmp_path: Path) -> None:
    job = job_of(workplace, stage)
    found = show.show(job, 2, 0)
    (source,) = found["data"]["train"]
    assert source["complete"]
    assert len(source["shown"]) == 2
    loaded, tokenizer = registry.load(stage), loading.load_tokenizer(job)
    options = {"objective": "dpo"} if stage == "safe_dpo" else {}
    args = loaded.Config(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)
    shown = vars(show.arguments(job))
    assert all(getattr(args, name) == value for name, value in shown.items() if name != "objective")
    lines = (workplace / DATA.get(stage, "pairs.jsonl")).read_text().splitlines()
    for line, record in zip(lines, source["shown"], strict=False):
        for row in loaded.encoder(tokenizer, args)(json.loads(line)).rows:
            ids = (
                row.get("input_ids")
                or row.get("chosen_input_ids")
                or row.get("a_input_ids")
                or [
                    *row.get("prompt_ids", ()),
                    *row["chosen_ids"],
                ]
            )
            first = record["sequences"][0]
            assert "".join(part["text"] for part in first["parts"]) == tokenizer.decode(ids)
            assert first["tokens"] == len(ids)


def test_what_is_learnt_cut_dropped_and_bad(workplace: Path, tmp_path: Path) -> None:
    def chat(question: str, answer: str) -> str:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return json.dumps({"messages": turns})

    file = tmp_path / "x.jsonl"
    file.write_text("\n".join([chat(say(0, 3), say(1, 2)), chat(say(0, 3), say(0, 80)), chat(say(0, 80), "a"), "{}"]))
    job = job_of(workplace, "sft", data=Data(train=[str(file)]), train={"max_length": 40})
    (source,) = show.show(job, 5, 0)["data"]["train"]
    assert (source["records"], source["truncated"], source["bad"]) == (3, 2, 1)
    assert source["dropped"] == {"nothing to learn within max_length 40": 1}
    assert source["bad_records"][0].startswith(f"{file}:4: columns found: none")
    assert source["tokens"][-1] == 40
    first = source["shown"][0]["sequences"][0]
    assert first["parts"] == [
        {"text": f"<|user|>{say(0, 3)}<|end|><|assistant|>", "learnt": False},
        {"text": f"{say(1, 2)}<|end|>", "learnt": True},
    ]
    (sampled,) = show.show(job, 0, 1)["data"]["train"]
    assert (sampled["records"], sampled["complete"], sampled["shown"]) == (1, False, [])


def test_the_commands_words(workplace: Path, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    job = {
        "name": "x",
        "stage": "dpo",
        "model": str(workplace / "model"),
        "data": {"train": [str(workplace / "pairs.jsonl")], "validation_share": 0.2, "max_train_samples": 5},
    }
    path.write_text(json.dumps(job))
    first = data_of(path)
    assert first.returncode == 0, first.stderr
    assert "<|end|>]]" in first.stdout
    assert "read as prompt, chosen, rejected (text, without a chat template): 5" in first.stdout
    assert "left out: " in first.stdout
    assert "data.validation: " in first.stdout
    said = json.loads(data_of(path, "--json", "-n", "0").stdout)
    assert said["data"]["train"][0]["records"] == 5
    missing = data_of(path, "--set", "model=./absent")
    assert missing.returncode == 2
    assert "no such folder" in missing.stderr
    assert "Traceback" not in missing.stderr
    bare = data_of(path, gone=("transformers",))
    assert bare.returncode == 2
    assert "has no transformers" in bare.stderr
    assert "Traceback" not in bare.stderr


def data_of(
    path: Path, *options: str, gone: tuple[str, ...] = ("torch", "trl", "accelerate", "peft")
) -> subprocess.CompletedProcess[str]:
    """The command, with a python that has none of these packages."""
    blocked = path.parent / "blocked"
    blocked.mkdir(exist_ok=True)
    (blocked / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        f"gone = {gone!r}\n"
        "PathFinder.find_spec = lambda name, *rest: None if name.partition('.')[0] in gone else find(name, *rest)\n"
    )
    env = os.environ | {"PYTHONPATH": f"{blocked}:{ROOT / 'src'}", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "alignlaunch.launchers.cli", "data", str(path), *options]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_a_step_whose_model_is_not_trained_yet_has_the_first_ones_tokenizer(workplace: Path, tmp_path: Path) -> None:
    jobs = {
        stage: {"stage": stage, "model": first, "data": {"train": [str(workplace / data)]}}
        for stage, first, data in (
            ("sft", str(workplace / "model"), "sft.jsonl"),
            ("dpo", "${sft.output}", "pairs.jsonl"),
        )
    }
    (tmp_path / "p.yaml").write_text(json.dumps({"name": "p", "jobs": jobs}))
    done = data_of(tmp_path / "p.yaml", "--json", "-n", "0")
    assert done.returncode == 0, done.stderr
    assert {step: found["stage"] for step, found in json.loads(done.stdout).items()} == {"sft": "sft", "dpo": "dpo"}
