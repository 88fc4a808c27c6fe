"""The part of a job that training needs: the one schema that the submitting side and the nodes share. No torch here.

`job.resolved.yaml` is the whole job with every default filled in. The entrypoint reads it with `load`, which takes the
keys below and ignores those that only matter for launching (time, slurm, ...).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Stage = Literal["pt", "sft", "rm", "dpo", "orpo", "safe_dpo"]
NonEmptyStr = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Role = Literal["train", "validation"]


Columns = dict[NonEmptyStr, NonEmptyStr]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place that examples come from."""

    path: Annotated[
        NonEmptyStr,
        Meta(
            description="A data file, a folder that is searched recursively for data files, or the id of a data "
            "set on the Hugging Face Hub.",
            examples=["../data/reward"],
        ),
    ]
    weight: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="This source's part of the training examples, relative to the weights of the other "
            "sources. Either all sources have a weight or none; without weights every record is used "
            "once.",
            examples=[0.3],
        ),
    ] = None
    columns: Annotated[Columns | None, Meta(description="Replaces `data.columns` for this source.")] = None
    ignore_columns: Annotated[
        list[NonEmptyStr] | None, Meta(description="Replaces `data.ignore_columns` for this source.")
    ] = None


#: Every reward model that safe_dpo may read.
REWARD_MODELS = ("helpful", "harmless")
#: Those that an objective reads, as in `train.{name}_reward_model`.
REWARDS: dict[str, tuple[str, ...]] = {
    "dpo": (),
    "mm_dpo": ("helpful",),
    "modpo": ("harmless",),
    "safedpo": (),
    "bfpo": (),
    "lagrangian": REWARD_MODELS,
}


def rewards_read(train: dict[str, Any]) -> tuple[str, ...]:
    """The reward models that a safe_dpo run with this `train:` reads; its evaluation by generation reads both."""
    return REWARD_MODELS if train.get("eval_generate") else REWARDS.get(str(train.get("objective")), ())


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the examples come from."""

    train: Annotated[
        list[NonEmptyStr | Source],
        Meta(
            min_length=1,
            description="Training data: a list of data files, folders that are searched recursively, or Hugging "
            "Face Hub ids. An entry may also be a map with `path` and, for this source alone, "
            "`weight`, `columns` or `ignore_columns`.",
            examples=[["../data/train"]],
        ),
    ]
    validation: Annotated[
        list[NonEmptyStr | Source],
        Meta(
            description="Evaluation data, written like `data.train` but without weights. Without it and without "
            "`validation_share` nothing is evaluated."
        ),
    ] = []
    validation_share: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(
            description="Part of the training records, between 0 and 1, that is held out for evaluation. Not "
            "together with `validation`.",
            examples=[0.05],
        ),
    ] = None
    columns: Annotated[
        Columns,
        Meta(
            description="Renames columns: a column name that the stage's data format expects (docs/data.md), and "
            "the name that this column has in your data.",
            examples=[{"prompt": "question"}],
        ),
    ] = {}
    ignore_columns: Annotated[
        list[NonEmptyStr],
        Meta(
            description="Columns to leave out although a data format gives them a meaning, such as `history`. A "
            "record with such a column that the stage cannot use is otherwise an error.",
            examples=[["messages"]],
        ),
    ] = []
    skip_bad_records: Annotated[
        bool,
        Meta(
            description="Skip records that cannot be used for training, and report how many there were and where. "
            "By default the first one ends the run."
        ),
    ] = False
    max_train_samples: Annotated[
        Count | None,
        Meta(
            description="Use at most this many training records, drawn at random with `train.seed` from all "
            "sources. The stage's default (docs/defaults.md) may be a small number; null uses all "
            "records."
        ),
    ] = None
    max_eval_samples: Annotated[
        Count | None,
        Meta(
            description="Use at most this many evaluation records, drawn at random with `train.seed`. The stage's "
            "default (docs/defaults.md) may be a small number; null uses all records."
        ),
    ] = None
    cache_dir: Annotated[
        NonEmptyStr | None,
        Meta(
            description="Folder in which tokenised data and data sets from the Hugging Face Hub are cached. By "
            "default that of the `datasets` library (`HF_DATASETS_CACHE`)."
        ),
    ] = None

    @property
    def evaluates(self) -> bool:
        """Whether there is anything to evaluate on."""
        return bool(self.validation) or self.validation_share is not None

    def sources(self, role: Role) -> list[Source]:
        """The sources of `train` or `validation`, each with its own `columns` and `ignore_columns`.

        An entry that is text may be a comma-separated list of paths.
        """
        entries = self.train if role == "train" else self.validation
        sources: list[Source] = []
        for entry in entries:
            if isinstance(entry, str):
                paths = [part.strip() for part in entry.split(",") if part.strip()]
                sources += [
                    Source(path=path, columns=self.columns, ignore_columns=self.ignore_columns) for path in paths
                ]
            else:
                columns = self.columns if entry.columns is None else entry.columns
                ignored = self.ignore_columns if entry.ignore_columns is None else entry.ignore_columns
                sources.append(msgspec.structs.replace(entry, columns=columns, ignore_columns=ignored))
        return sources


class Lora(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A low-rank adapter in place of a full fine-tune (PEFT's LoraConfig)."""

    r: Annotated[Count, Meta(description="Rank of the adapter's two matrices.")] = 8
    alpha: Annotated[Count, Meta(description="Scale of the adapter: its output is multiplied by alpha / r.")] = 16
    dropout: Annotated[float, Meta(ge=0, lt=1, description="Dropout probability on the adapter's input.")] = 0.05
    dora: Annotated[
        bool,
        Meta(
            description="Train a DoRA adapter, which learns the magnitude and the direction of each weight "
            "separately (arXiv 2402.09353)."
        ),
    ] = False
    target_modules: Annotated[
        NonEmptyStr | Annotated[list[NonEmptyStr], Meta(min_length=1)],
        Meta(
            description="Names of the modules that get an adapter, as a list or comma-separated; or `all`: every "
            "linear layer of the language model except the output head. The layers of a vision tower "
            "are never included."
        ),
    ] = "all"


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told when the state of a run changes."""

    webhook: Annotated[
        NonEmptyStr | None,
        Meta(
            description="Name of the environment variable, one of `secrets`, that holds a URL. The message is posted "
            "there as JSON; its `text` is what Slack, Mattermost and Google Chat show.",
            examples=["SLACK_URL"],
        ),
    ] = None
    command: Annotated[
        Annotated[list[NonEmptyStr], Meta(min_length=1)] | None,
        Meta(
            description="A program and its arguments. It is started on the node where the message comes from, in the "
            "job file's folder, with the message as JSON on its standard input.",
            examples=[["./tell-me.sh", "--quiet"]],
        ),
    ] = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a run saves what it can go on from, and where else than in `output_dir`."""

    every: Annotated[Count | None, Meta(description="The same as `train.save_steps`.", examples=[500])] = None
    keep: Annotated[Count | None, Meta(description="The same as `train.save_total_limit`.", examples=[2])] = None
    local: Annotated[
        NonEmptyStr | None,
        Meta(
            description="An existing folder on each node's own disk or in its memory, for a second tier of checkpoints "
            "(docs/resuming.md): an absolute path. With `local_every`.",
            examples=["/scratch"],
        ),
    ] = None
    local_every: Annotated[
        Count | None,
        Meta(description="Steps between two checkpoints in `local`; divides `train.save_steps`.", examples=[50]),
    ] = None


def checkpoint_named(resume: str) -> str | None:
    """The checkpoint that a job's `resume` names; None for its words."""
    return None if resume in ("auto", "never") else resume


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A trained folder that is chosen when the run starts: `link` leads to the best by `metric` of those `among`."""

    link: str
    metric: str
    among: list[str]


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a training process needs of a job. Paths are relative to the working directory (the job file's folder)."""

    name: str
    stage: Stage
    model: str
    tokenizer: str | None = None
    attn_implementation: str | None = None
    quantization: Literal["none", "8bit", "4bit"] = "none"
    trust_remote_code: bool = False
    data: Data
    output_dir: str
    #: DeepSpeed JSON beside job.resolved.yaml; None trains with plain DDP.
    deepspeed: str | None = None
    lora: Lora | None = None
    #: `auto`, `never`, or the checkpoint to start from: `outputs.start`.
    resume: str = "auto"
    #: Seconds that nodes wait for each other, and a first all-reduce may take (at least 60); 0: no preflight; None: the
    #: launcher's default.
    preflight_timeout: int | None = None
    #: Seconds that a step may take before the attempt is ended; 0: however long; None: learned from the steps.
    hang_timeout: int | None = None
    notify: Notify | None = None
    checkpoint: Checkpoint | None = None
    #: Keyword arguments of the stage's trainer config, all checked against `trainer_args.json` before submitting.
    train: dict[str, Any] = {}
    choices: list[Choice] = []


#: Environment variable that `alignlaunch ... --preflight-only` sets: end before the model loads.
PREFLIGHT_ONLY = "ALIGNLAUNCH_PREFLIGHT_ONLY"
#: Environment variable with the run's token, by which its nodes know each other in preflight. On Slurm each attempt's
#: batch script draws one, on Kubernetes each submission.
TOKEN = "ALIGNLAUNCH_TOKEN"  # noqa: S105 - its name


def load(path: Path) -> TrainConfig:
    """Read a `job.resolved.yaml`.

    Raises ValueError with the file's name and the rule that was broken.
    """
    import yaml

    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), TrainConfig)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(f"{path}: not a job.resolved.yaml: {error}") from error


def trusts_remote_code(job: str) -> bool:
    """Whether a resolved job, as its provenance has it, allows the model's own code."""
    import yaml

    try:
        found = yaml.safe_load(job)
    except (yaml.YAMLError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("trust_remote_code") is True
