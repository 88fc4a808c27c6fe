"""What a careful engineer writes by hand with TRL, for bench/train.py and bench/first_step.py. Reads JSON settings."""

# mypy: ignore-errors
import json
import os
import sys
import time

import peft
import transformers
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

settings = json.loads(sys.argv[1])
is_first = os.environ.get("RANK", "0") == "0"
times = open(settings["times"] if is_first else os.devnull, "w")  # noqa: SIM115, PTH123 - open for the whole run


class Clock(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        times.write(f"{time.time()}\n")
        times.flush()


tokenizer = transformers.AutoTokenizer.from_pretrained(settings["model"])
model = transformers.AutoModelForCausalLM.from_pretrained(settings["model"], dtype="float32")
rows = load_dataset("json", data_files=settings["data"], split="train")
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(**settings["train"], output_dir=settings["output_dir"], bf16=False, use_cpu=True),
    train_dataset=rows,
    processing_class=tokenizer,
    peft_config=peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **settings["lora"]),
    callbacks=[Clock()],
)
trainer.train()
trainer.save_model()
