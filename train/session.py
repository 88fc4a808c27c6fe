"""One training run from a loaded job to saved weights: arguments, data, model, trainer, result."""

from __future__ import annotations

import os
import pickle
import platform
import sys
import warnings
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import msgspec
import torch
import transformers

from . import batch, beating, finish, reporting, stopping, trained_folder
from .config import REWARD_MODELS, Role, TrainConfig
from .data import preparation
from .data.encoding import vision
from .data.encoding.encoders import LIMITS, Encoder
from .data.encoding.tokens import identity
from .errors import Interrupted, UserError
from .model import adapter, loading, precision, vocabulary
from .outputs import announcing, checkpoints, commit, merge, resumed, sameness, saving, space, start
from .processes import deepspeed_group, sharing, spread
from .processes.beats import beats
from .processes.rendezvous import Rendezvous
from .reporting import say
from .stages import registry, unused

#: Keys of `train:` that name a model.
_REWARD_KEYS = [f"{name}_reward_model" for name in REWARD_MODELS]


def train(job: TrainConfig, job_file: Path, place: Rendezvous, zero: dict[str, Any] | None) -> int:
    """Train, evaluate, save. zero: the DeepSpeed configuration; None: DDP. Returns the exit code. Raises UserError."""
    output_dir = Path(job.output_dir)
    _make_writable(output_dir)
    beating.agree(output_dir, place)
    cuda = torch.cuda.is_available()
    if zero is not None:
        deepspeed_group.join(zero, cuda=cuda)
    chosen, why = precision.choose(job.train, cuda=cuda, bf16_supported=bf16_supported())
    say(why)
    quieten(place)
    job = with_whole_models(job, place, sharded=_is_sharded(zero))
    stage = registry.load(job.stage)
    args = training_arguments(job, stage.Config, chosen, zero, cuda=cuda)
    transformers.set_seed(args.seed)
    if "wandb" in args.report_to:
        os.environ.setdefault("WANDB_DIR", job.output_dir)  # W&B's default is the working directory

    inputs = [job.model, job.tokenizer or "", *(str(job.train.get(key, "")) for key in _REWARD_KEYS)]
    begin = start.settle(job, args, inputs, place)
    step = _batch(args, begin.checkpoint, place)

    tokenizer = loading.load_tokenizer(job)
    processor = vision.load_processor(job, tokenizer)
    encode = vision.encoder(job, stage, tokenizer, processor, args)
    train_rows = rows("train", job, args, processor or tokenizer, encode, place)
    eval_rows = rows("validation", job, args, processor or tokenizer, encode, place) if job.data.evaluates else None
    start.require_rows(begin, len(train_rows))
    images = vision.sees(train_rows, eval_rows)
    network = loading.load_model(job, args, tokenizer, chosen, head=stage.HEAD, images=images)
    new_tokens = vocabulary.grow(network, len(tokenizer))
    lora = adapter.configure(job.lora, network, new_tokens, head=stage.HEAD) if job.lora else None
    about = saving.provenance(job_file, place, device=_device_name(cuda=cuda), precision=chosen, deepspeed=zero)
    transformers.set_seed(args.seed)  # again: loading draws other numbers with ZeRO-3; new adapters must not differ
    beating.with_each_forward(network, args)
    trainer = stage.trainer(args, network, lora, processor if images else tokenizer, train_rows, eval_rows)
    if lora:
        adapter.settle(trainer.model, args)
    unused.settle(trainer)
    trainer.about = commit.About(place, sameness.of(job), records=step.records, rows=len(train_rows))
    _add_callbacks(trainer, begin, step, place)
    sharing.by_rank_0(lambda: space.require(trainer.model, args), place)

    try:
        _train(trainer, begin)
        if eval_rows is not None and not _evaluated_last_step(trainer):
            trainer.evaluate()
    except Interrupted:
        return stopping.stopped(trainer, begin.checkpoint, place)
    _save(trainer, about, begin)
    say(f"saved {'the adapter' if job.lora else 'the model'} in {output_dir}")
    if hasattr(stage, "finish"):
        stage.finish(trainer, output_dir)
    return finish.DONE


def _add_callbacks(trainer: Any, begin: start.Start, step: batch.StepBatch, place: Rendezvous) -> None:
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    for callback in (
        beating.Beating(),
        stopping.Stopping(trainer, place),
        reporting.Recorder(Path(trainer.args.output_dir)),
        resumed.JobSettings(),
        resumed.Unfinished(trainer, begin.saved),
        announcing.Announcing(),
        batch.BatchRecorder(step),
    ):
        trainer.add_callback(callback)
    if begin.source and begin.source != begin.checkpoint:
        trainer.add_callback(resumed.Converted(begin.source, place))


def _train(trainer: Any, begin: start.Start) -> None:
    """Train from where the attempt begins. Notes it in the output folder if not even a first step succeeds.

    Raises Interrupted if the run was asked to stop, and did.
    """
    resume, trainer.tier = begin.checkpoint, begin.tier
    try:
        trainer.train(resume_from_checkpoint=str(begin.source) if begin.source else None)
        trainer.settle()
    except (UserError, Interrupted):
        raise
    except pickle.UnpicklingError as error:  # transformers loads with `weights_only`
        raise UserError(
            f"{resume}: cannot be resumed: one of its files holds more than plain tensors, and loading it could run "
            f"any code. If it is what you wrote, start a new run from its weights: `model: {resume}`. ({error})"
        ) from error
    except Exception:
        own = [Path(trainer.args.output_dir), *([begin.tier.home] if begin.tier else [])]
        if resume and resume.parent in own and trainer.state.global_step <= checkpoints.step(resume):
            checkpoints.record_failed_start(resume, begin.token)
        raise
    if trainer.stops or trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted


def _save(trainer: Any, about: dict[str, Any], begin: start.Start) -> None:
    """Save the result; with it nothing needs the second tier any more."""
    beats.begin("saving the result")
    saving.save(trainer, Path(trainer.args.output_dir), about)
    if begin.tier and trainer.args.local_process_index == 0:
        begin.tier.remove()


def bf16_supported() -> bool:
    """Whether to train in bf16 here if a job asks for it: the GPU supports it, or on a CPU a test asks for it."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(os.environ.get(precision.BF16_ON_CPU))


def _is_sharded(zero: dict[str, Any] | None) -> bool:
    return bool((zero or {}).get("zero_optimization", {}).get("stage") == 3)


def _batch(args: Any, resume: Path | None, place: Rendezvous) -> batch.StepBatch:
    """The global batch of this run: that of the checkpoint, if it resumes from one. Sets `args` to it. A collective."""
    now = batch.of(args, place.world_size)
    if resume is None:
        return now
    before = sharing.by_rank_0(lambda: batch.saved(resume), place)
    if before is None:
        say(f"{resume} does not record its batch; this run is right only if it was {now.records} records a step, too")
        return now
    kept = batch.keep(args, before, now, resume)
    if (kept.processes, now.records) != (before.processes, before.records):
        say(
            f"{before.processes} process(es) before, {now.processes} now: per_device_train_batch_size "
            f"{args.per_device_train_batch_size} and gradient_accumulation_steps {args.gradient_accumulation_steps} "
            f"keep steps of {kept.records} records"
        )
    return kept


def with_whole_models(job: TrainConfig, place: Rendezvous, *, sharded: bool = False) -> TrainConfig:
    """The job, with each adapter that it names as a model merged into its base: by one rank, while the others wait.

    Reward models are merged only if models are `sharded` while they load (ZeRO-3), because PEFT cannot load an adapter
    onto shards. Call it before the training arguments are made: with ZeRO-3 these would make the base be sharded here.
    """
    job = msgspec.structs.replace(job, model=_whole("model", job.model, job, place))
    rewards = {key: job.train[key] for key in _REWARD_KEYS if job.train.get(key)} if sharded else {}
    rewards = {key: _whole(f"train.{key}", folder, job, place) for key, folder in rewards.items()}
    return msgspec.structs.replace(job, train=job.train | rewards)


def _whole(key: str, name: str, job: TrainConfig, place: Rendezvous) -> str:
    """The name itself, or if it is an adapter's folder that of the merged model. key: the job's, for messages."""
    folder = Path(name)
    if "adapter" not in spread.gather(trained_folder.kind(folder)):
        return name

    def merged() -> str:
        try:
            return str(merge.merged(folder, trust_remote_code=job.trust_remote_code))
        except UserError as error:
            raise UserError(f"{key}: {error}") from error

    found = sharing.once(merged, folder.resolve().parent, place)
    say(f"{key}: {folder} is an adapter; using the merged model {found}")
    return found


def training_arguments(
    job: TrainConfig, config_class: Any, chosen: precision.Precision, zero: dict[str, Any] | None, *, cuda: bool
) -> Any:
    """The stage's trainer config, from the job's `train:` and this machine (precision, device, terminal).

    Raises UserError if the config refuses the arguments.
    """
    known = {f.name for f in fields(config_class) if f.init}
    if unknown := sorted(job.train.keys() - known):
        raise UserError(
            f"train: {config_class.__name__} has no argument {', '.join(unknown)}. Remove it from the job.",
            everywhere=True,
        )
    given = dict(job.train)
    given |= {
        "output_dir": job.output_dir,
        "deepspeed": zero,
        "use_cpu": not cuda,
        "bf16": chosen == "bf16",
        "fp16": chosen == "fp16",
        "disable_tqdm": not reporting.on_terminal(),
    }
    given.setdefault("report_to", ["tensorboard"] if find_spec("tensorboard") else [])
    given.setdefault("run_name", job.name)
    if not job.data.evaluates:
        given |= {"eval_strategy": "no"}
    if not cuda:
        given |= {"dataloader_pin_memory": False, "tf32": None}
    try:
        return config_class(**given)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"train: {config_class.__name__} refuses these arguments: {error}", everywhere=True) from error


def _make_writable(folder: Path) -> None:
    """Raise UserError now, and not after hours of training, if nothing can be saved in the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise UserError(f"output_dir: {folder}: {error.strerror}. Choose a folder this user can write to.") from error
    if not writable:
        raise UserError(f"output_dir: {folder}: not writable on {platform.node()}. Choose another or change its owner.")


def quieten(place: Rendezvous) -> None:
    """Warnings from rank 0 only, and no progress bars in a log file."""
    hf_logging: Any = transformers.utils.logging
    if place.rank != 0:
        hf_logging.set_verbosity_error()
        warnings.simplefilter("ignore", FutureWarning)
    if place.rank != 0 or not reporting.on_terminal():
        hf_logging.disable_progress_bar()
        datasets.disable_progress_bars()


def rows(role: Role, job: TrainConfig, args: Any, reader: Any, encode: Encoder, place: Rendezvous) -> Any:
    """The prepared rows of a role. reader: the tokenizer, or a vision-language model's processor. A collective."""
    beats.begin(f"preparing data.{role}")
    key = f"{job.stage} {identity(reader)} {[getattr(args, name, None) for name in LIMITS]}"
    return preparation.load(role, job, encode, key=key, args=args, place=place)


def _evaluated_last_step(trainer: Any) -> bool:
    step = trainer.state.global_step
    return any("eval_loss" in record and record["step"] == step for record in trainer.state.log_history)


def _device_name(*, cuda: bool) -> str:
    return torch.cuda.get_device_name() if cuda else f"cpu ({os.cpu_count()} cores, {sys.platform})"
