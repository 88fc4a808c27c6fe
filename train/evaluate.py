"""A trained folder, evaluated as its stage evaluates during training: one process, on validation data or other data.

The trainer is the one of training, made from what training started from; then it gets the trained weights. So that DPO,
for example, compares them with the same reference as it did then.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import torch
import transformers

from alignlaunch.train import adapter, finish, model, outputs, precision, saving, session, stages, vision, vocabulary
from alignlaunch.train.config import TrainConfig
from alignlaunch.train.errors import UserError
from alignlaunch.train.rendezvous import Rendezvous
from alignlaunch.train.reporting import say

FILE = "eval.json"


def evaluate(job: TrainConfig, folder: Path, place: Rendezvous, sources: list[str]) -> int:
    """Evaluate the weights in `folder` on `sources` (empty: the job's validation data); write FILE into the folder.

    Returns the exit code. Raises UserError where there is nothing to evaluate, or nothing to evaluate on.
    """
    kind = outputs.kind(folder)
    if kind not in ("model", "adapter"):
        what = "shards only: make a model of them with `alignlaunch export`" if kind else "no model and no adapter"
        raise UserError(f"{folder}: holds {what}.")
    if sources:
        given = msgspec.structs.replace(job.data, validation=[*sources], validation_share=None)
        job = msgspec.structs.replace(job, data=given)
    if not job.data.evaluates:
        raise UserError("data.validation: the job has none. Name some data: `--data PATH`.")
    if (folder / "tokenizer_config.json").is_file():
        job = msgspec.structs.replace(job, tokenizer=str(folder))
    if kind == "model":
        job = msgspec.structs.replace(job, lora=None, quantization="none")
    cuda = torch.cuda.is_available()
    chosen, _ = precision.choose(job.train, cuda=cuda, bf16_supported=cuda and torch.cuda.is_bf16_supported())
    session.quieten(place)
    job = session.with_whole_model(job, place)
    stage = stages.load(job.stage)
    args = session.training_arguments(job, stage.Config, chosen, None, cuda=cuda)
    args.report_to = []
    transformers.set_seed(args.seed)

    tokenizer = model.load_tokenizer(job)
    processor = vision.load_processor(job, tokenizer)
    encode = vision.encoder(job, stage, tokenizer, processor, args)
    rows = session.rows("validation", job, args, processor or tokenizer, encode, place)
    images = vision.sees(rows, None)
    start = msgspec.structs.replace(job, model=str(folder)) if kind == "model" else job
    network = model.load_model(start, args, tokenizer, chosen, head=stage.HEAD, images=images)
    network.config.name_or_path = job.model  # where a trainer looks for its reference
    new_tokens = vocabulary.grow(network, len(tokenizer))
    lora = adapter.configure(job.lora, network, new_tokens, head=stage.HEAD) if job.lora else None
    reader = processor if images else tokenizer
    trainer = stage.trainer(args, network, lora, reader, rows, rows)  # TRL's want training data to be there
    if lora:
        adapter.settle(trainer.model)
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    if kind == "adapter":
        trainer.model.load_adapter(str(folder), "default")
    metrics = {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items() if name != "epoch"}
    read = [source.path for source in job.data.sources("validation") or job.data.sources("train")]
    _write(folder / FILE, {"metrics": metrics, "data": read, "precision": chosen, "examples": len(rows)})
    say(f"evaluated on {len(rows)} examples; the metrics are in {folder / FILE}")
    return finish.DONE


def _write(path: Path, found: dict[str, object]) -> None:
    found |= {"versions": saving.versions(), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    try:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}.") from error
