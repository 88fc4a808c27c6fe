"""docs/defaults.md: the stages' defaults and where they come from. `python -m bench.defaults_page --write FILE`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import get_args

from alignlaunch.launchers.job import defaults
from alignlaunch.launchers.job.defaults import Default
from alignlaunch.train.config import Stage

from . import made_page

#: Short name of a guide, as it stands in a starter file → what it is, and the job file that follows it.
GUIDES = {
    "ORPO": ("ORPO with torchrun and DeepSpeed, ZeRO-1/2/3", "orpo"),
    "RM": ("Reward models with torchrun and DeepSpeed", "rm"),
    "SFT": ("Fine-tuning with torchrun, LoRA and ZeRO-2", "sft"),
    "DeepSpeed": ("Pretraining with the deepspeed launcher", "pretraining"),
    "DDP": ("Reward models and safe multimodal DPO on eight GPUs with plain DDP", "safe-dpo"),
}
#: Guide and section, as they stand in the table of defaults → the section's subject.
SECTIONS = {
    "ORPO §2": "ORPO guide, section 2 (usage)",
    "ORPO §5": "ORPO guide, section 5 (hyperparameters)",
    "RM §2": "RM guide, section 2 (usage)",
    "RM §5": "RM guide, section 5 (hyperparameters)",
    "DeepSpeed §1": "DeepSpeed guide, section 1 (usage)",
    "DeepSpeed §2.3": "DeepSpeed guide, section 2.3 (hyperparameters)",
    "DeepSpeed §5": "DeepSpeed guide, section 5 (remarks)",
    "ORPO, RM, SFT: title": "titles of the ORPO, RM and SFT guides",
    "DDP: title": "title of the DDP guide",
    "SFT, training": "SFT guide, training parameters",
    "SFT, model": "SFT guide, model parameters",
    "SFT, LoRA": "SFT guide, LoRA parameters",
    "SFT, memory": "SFT guide, memory features",
    "DDP, quick start": "DDP guide, quick start",
    "alignlaunch": "our choice",
    "script": "default of the training script",
}
WHOLE = {"ORPO": "ORPO guide", "RM": "RM guide", "SFT": "SFT guide", "DeepSpeed": "DeepSpeed guide", "DDP": "DDP guide"}

HEAD = f"""<!-- Made by `make defaults-page`. Do not edit. -->
# Defaults of each stage, and where they come from

A job file needs three keys, one of safe_dpo also its reward models. Everything else has a default, which may depend on
the stage. `alignlaunch init STAGE` writes a job file with all of them, each with its source as a comment:

```console
$ alignlaunch init rm | grep learning_rate
  learning_rate: 2e-05                 # the highest rate, after the warm-up [RM §5]
```

`alignlaunch render` writes `job.resolved.yaml`, in which every default is filled in. Those that are easy to
overlook are also reported with each command: how many processes there are, the adapter, and what limits how much is
trained:

```yaml file=job.yaml
name: my-orpo
stage: orpo
model: ../model/Qwen/Qwen3-0.6B
data: {{train: [../data/pairs]}}
```

```console
$ alignlaunch render job.yaml 2>&1 | grep -o "note: .* default"
note: nproc_per_node: 1 is the default
note: lora: r=8, alpha=16, dropout=0.05, target_modules=all is the stage's default
note: data.max_train_samples: 1000 is the stage's default
note: train.max_steps: 100 is the stage's default
```

## The sources

The project began as launch scripts with a guide for each. The defaults are the values in those guides. Where a guide is
silent, the default of the training script that it describes is used. A job file with the values of each guide is in
`examples/documents/`.

| name | the guide's subject | job file |
| --- | --- | --- |
{
    chr(10).join(
        f"| {name} | {what} | [{file}.yaml](../examples/documents/{file}.yaml) |"
        for name, (what, file) in GUIDES.items()
    )
}

"§5" is section 5 of a guide, "script" the default of the training script, "alignlaunch" a choice of ours."""
TAIL = """
## Where this differs from the guides and their scripts

- **One process on each node, unless the job file says more.** The SFT and the DDP guide start 4 and 8. One means the
  same on every machine and in every stage; `alignlaunch init` asks the machine for the number of its GPUs.
- **The reward models of safe_dpo have no default.** The DDP guide's are `models/helpful_rm` and `models/harmless_rm`.
- **One length limit.** The guides limit source and target apart (`max_source_length`, `max_target_length`). TRL has one
  limit for both: `train.max_length` is their sum. ORPO also has `train.max_prompt_length`.
- **`warmup_ratio` is `train.warmup_steps`.** Since transformers 5 a value below 1 is a share of all steps.
- **dpo evaluates pair by pair** (`per_device_eval_batch_size: 1`). Its metrics are means over a batch, so they would
  otherwise depend on the batch size and the number of processes.
- **safe_dpo scores once, before training** (`scores: precomputed`). The guide keeps both reward models on each GPU
  while it trains: that is `scores: live`.
- **dpo computes its reference once, before training,** where training sees each pair more than once, and keeps it
  beside the prepared data; the log says so. `precompute_ref_log_probs` says `false` (at each step) or `true` (before).
- **A learning rate meant for LoRA is not used for all weights.** With `lora: null`, the defaults of orpo and pt fall
  away and the trainer's own applies. A note says so.
- **What you give displaces what contradicts it.** `train.num_train_epochs` displaces `train.max_steps` of orpo;
  `train.max_length` displaces its `max_prompt_length`.
- **An existing output folder is not overwritten.** What an earlier run left is moved aside: see
  [resuming.md](resuming.md).
- **Memory.** The DeepSpeed guide counts 8 bytes a parameter. Mixed precision takes 16, and this is what
  `alignlaunch plan` counts: see [plan.md](plan.md), which has the guides' figures beside ours."""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    yield "\n## All stages"
    yield from _table(defaults.COMMON)
    for stage in get_args(Stage):
        yield f"\n## {stage}"
        yield from _table(defaults.STAGES[stage])
    yield TAIL


def _table(table: list[Default]) -> list[str]:
    rows = [(f"`{default.key}`", f"`{json.dumps(default.value)}`", source(default.source)) for default in table]
    return made_page.table(("key", "default", "source"), rows)


def source(text: str) -> str:
    """Where a default comes from, in words. Raises KeyError for a source that has none here."""
    return "; ".join(_source(part.strip()) for part in text.split(";"))


def _source(text: str) -> str:
    match = re.match("|".join(map(re.escape, sorted({**SECTIONS, **WHOLE}, key=len, reverse=True))), text)
    if match is None:
        raise KeyError(text)
    return {**WHOLE, **SECTIONS}[match[0]] + text[match.end() :].replace(", script", "; default of the training script")


if __name__ == "__main__":
    made_page.main(__doc__, page)
