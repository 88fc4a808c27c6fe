"""Evaluating a trained folder as its stage evaluates during training: one process, on validation data or other data.

The trainer is that of training. If the stage has a reference, the trainer is made with the model that training started
from, and then gets the trained weights: so the reference is the same as in training. What a stage does once its weights
are saved (safe_dpo's `eval_generate`) is done again.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import msgspec
import torch
import transformers

from . import finish, session, trained_folder
from .config import TrainConfig
from .data.encoding import vision
from .errors import UserError
from .model import adapter, loading, precision, vocabulary
from .outputs import saving
from .processes.rendezvous import Rendezvous
from .reporting import say
from .stages import registry

TRAINER_STATE = "trainer_state.json"
#: Stages with a reference model, which is the model that training started from.
COMPARING = ("dpo", "safe_dpo")


def evaluate(job: TrainConfig, folder: Path, place: Rendezvous, sources: list[str]) -> int:
    """Evaluate the weights in `folder` on `sources` (empty: the job's validation data); write eval.json there.

    Returns the exit code. Raises UserError if the folder has no weights, or there is no data to evaluate on.
    """
    kind = trained_folder.kind(folder)
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
    chosen, _ = precision.choose(job.train, cuda=cuda, bf16_supported=session.bf16_supported())
    session.quieten(place)
    job = session.with_whole_models(job, place)
    stage = registry.load(job.stage)
    args = session.training_arguments(job, stage.Config, chosen, None, cuda=cuda)
    args.report_to = []
    transformers.set_seed(args.seed)

    tokenizer = loading.load_tokenizer(job)
    processor = vision.load_processor(job, tokenizer)
    encode = vision.encoder(job, stage, tokenizer, processor, args)
    rows = session.rows("validation", job, args, processor or tokenizer, encode, place)
    images = vision.sees(rows, None)
    load = partial(loading.load_model, args=args, tokenizer=tokenizer, precision=chosen, head=stage.HEAD, images=images)
    trained = msgspec.structs.replace(job, model=str(folder))
    network = load(job if kind == "adapter" or job.stage in COMPARING else trained)
    new_tokens = vocabulary.grow(network, len(tokenizer))
    lora = adapter.configure(job.lora, network, new_tokens, head=stage.HEAD) if job.lora else None
    reader = processor if images else tokenizer
    trainer = stage.trainer(args, network, lora, reader, rows, rows)  # TRL's require training data
    if lora:
        adapter.settle(trainer.model, args)
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    if kind == "adapter":
        trainer.model.load_adapter(str(folder), "default")
    elif job.stage in COMPARING:
        trainer.model.load_state_dict(load(trained).state_dict())
    if (folder / TRAINER_STATE).is_file():
        trainer.state = transformers.TrainerState.load_from_json(str(folder / TRAINER_STATE))
    if hasattr(stage, "finish"):
        stage.finish(trainer, folder)
    metrics = {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items() if name != "epoch"}
    read = [source.path for source in job.data.sources("validation") or job.data.sources("train")]
    _write(
        folder / trained_folder.EVALUATION,
        {"metrics": metrics, "data": read, "precision": chosen, "examples": len(rows)},
    )
    say(f"evaluated on {len(rows)} examples; the metrics are in {folder / trained_folder.EVALUATION}")
    return finish.DONE


def _write(path: Path, found: dict[str, object]) -> None:
    found |= {"versions": saving.versions(), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    try:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}.") from error
