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

ROOT = Path(__file__).parents[2]
# Each answer ends with the end of sequence, as in chat templates of the field; the tests compare with plain text too.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = [
    "the",
    "capital",
    "of",
    "France",
    "is",
    "Paris",
    "and",
    "a",
    "good",
    "answer",
    "is",
    "short",
    "while",
    "a",
    "bad",
    "one",
    "never",
    "ends",
]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job file's folder: `model/`, `sft.jsonl`, `pairs.jsonl`."""
    place = tmp_path_factory.mktemp("workplace")
    _make_model(place / "model")
    sft = [{"messages": [_user(i), _assistant(i)] * (1 + i % 2)} for i in range(16)]
    pairs = [
        {"prompt": _say(i, 3), "chosen": " " + _say(i + 1, 2 + i % 5), "rejected": " " + _say(i + 7, 7 - i % 4)}
        for i in range(16)
    ]
    for name, records in (("sft", sft), ("pairs", pairs), ("pairs_eval", pairs[:7])):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    for stage in (1, 2, 3):
        (place / f"zero{stage}.json").write_text(json.dumps(zero_json(stage)))
    return place


def zero_json(stage: int) -> dict[str, Any]:
    """A DeepSpeed configuration as zero_configs/ has it."""
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "zero_optimization": {"stage": stage}
        | ({"stage3_gather_16bit_weights_on_model_save": True} if stage == 3 else {}),
    }


def _user(i: int) -> dict[str, str]:
    return {"role": "user", "content": _say(i, 4)}


def _assistant(i: int) -> dict[str, str]:
    return {"role": "assistant", "content": _say(3 * i, 2 + i % 5)}


def _say(start: int, count: int) -> str:
    return " ".join(WORDS[(start + k) % len(WORDS)] for k in range(count))


def _make_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [" ".join(WORDS)] * 4, trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=alphabet)
    )
    special = {"eos_token": "<|end|>", "pad_token": "<|pad|>"}
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=core, **special)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


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

    def logged(self, name: str) -> list[float]:
        """One metric over the run."""
        return [record[name] for record in self.records() if name in record]


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
        "data": {"train": ["sft.jsonl" if stage == "sft" else "pairs.jsonl"], "cache_dir": "cache"},
        "output_dir": f"out/{name}",
        "train": train,
    } | changes
    path = workplace / "runs" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(job))
    return path


@pytest.fixture(scope="session")
def run_job(workplace: Path) -> Runner:
    """Run a job in real processes: one alone, or several under torchrun."""

    def run(
        name: str, *, nproc: int = 1, zero: str | None = None, env: dict[str, str] | None = None, **changes: Any
    ) -> Finished:
        job = write_job(workplace, name, **changes)
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={nproc}"] if nproc > 1 else []
        command = [sys.executable, *launcher, "-m", "alignlaunch.train", str(job)]
        if zero:
            command += ["--deepspeed", zero]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_"))}
        clean |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(env or {})}
        done = subprocess.run(
            command, cwd=workplace, env=clean, capture_output=True, text=True, timeout=300, check=False
        )
        return Finished(done.returncode, done.stdout, done.stderr, workplace / "out" / name)

    return run
