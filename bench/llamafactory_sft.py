"""LLaMA-Factory's SFT: another side of `bench/train.py`, run by the Python of its own environment. Settings as JSON."""

# mypy: ignore-errors
import json
import sys
import time
from pathlib import Path

import transformers
from llamafactory.train.tuner import run_exp

settings = json.loads(sys.argv[1])
times = open(settings["times"], "w")  # noqa: SIM115, PTH123 - open for the whole run


class Clock(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        times.write(f"{time.time()}\n")
        times.flush()


columns = {"prompt": "prompt", "response": "completion"}
Path("dataset_info.json").write_text(json.dumps({"records": {"file_name": settings["data"], "columns": columns}}))
train = settings["train"]
run_exp(
    {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "model_name_or_path": settings["model"],
        "dataset": "records",
        "dataset_dir": ".",
        "template": "empty",
        "cutoff_len": train["max_length"],
        "lora_rank": settings["lora"]["r"],
        "lora_alpha": settings["lora"]["lora_alpha"],
        "lora_dropout": settings["lora"]["lora_dropout"],
        "lora_target": "all",
        "disable_gradient_checkpointing": not train["gradient_checkpointing"],
        "output_dir": settings["output_dir"],
        "use_cpu": True,
        "overwrite_cache": True,
        **{name: it for name, it in train.items() if name not in ("max_length", "gradient_checkpointing")},
    },
    callbacks=[Clock()],
)
