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
        NonEmptyStr, Meta(description="File, folder (searched recursively) or hub id.", examples=["../data/reward"])
    ]
    weight: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Share of the training examples, relative to the other sources' weights.", examples=[0.3]),
    ] = None
    columns: Annotated[Columns | None, Meta(description="For this source in place of `data.columns`.")] = None
    ignore_columns: Annotated[
        list[NonEmptyStr] | None, Meta(description="For this source in place of `data.ignore_columns`.")
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
            description="Files, folders (searched recursively) or hub ids; or maps of path, weight, columns.",
            examples=[["../data/train"]],
        ),
    ]
    validation: Annotated[
        list[NonEmptyStr | Source], Meta(description="As `train`, without weights; empty: no evaluation.")
    ] = []
    validation_share: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(description="Share of the training records to hold out for evaluation.", examples=[0.05]),
    ] = None
    columns: Annotated[
        Columns,
        Meta(description="Accepted column: the data's own name of it.", examples=[{"prompt": "question"}]),
    ] = {}
    ignore_columns: Annotated[
        list[NonEmptyStr],
        Meta(
            description="Columns of the data that carry a meaning and are to be left out all the same, such as "
            "`history`; without their names a record that has them is refused.",
            examples=[["messages"]],
        ),
    ] = []
    skip_bad_records: Annotated[bool, Meta(description="Count and list bad records instead of ending there.")] = False
    max_train_samples: Annotated[
        Count | None, Meta(description="Draw at most this many training records, by `train.seed`, from every source.")
    ] = None
    max_eval_samples: Annotated[Count | None, Meta(description="As `max_train_samples`, for evaluation.")] = None
    cache_dir: Annotated[NonEmptyStr | None, Meta(description="Cache of prepared data and hub downloads.")] = None

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

    r: Annotated[Count, Meta(description="Rank.")] = 8
    alpha: Annotated[Count, Meta(description="Scale; the adapter's output is multiplied by alpha / r.")] = 16
    dropout: Annotated[float, Meta(ge=0, lt=1, description="Dropout before the adapter.")] = 0.05
    dora: Annotated[bool, Meta(description="DoRA: learn magnitude and direction apart (arXiv 2402.09353).")] = False
    target_modules: Annotated[
        NonEmptyStr | Annotated[list[NonEmptyStr], Meta(min_length=1)],
        Meta(
            description="`all` (each linear layer but the output head; never those of a vision tower) or module names: "
            "a list or comma-separated."
        ),
    ] = "all"


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
    #: Seconds that nodes wait for each other, and a first all-reduce may take (at least 60); 0: no preflight; None: the
    #: launcher's default.
    preflight_timeout: int | None = None
    #: Keyword arguments of the stage's trainer config, all checked against `trainer_args.json` before submitting.
    train: dict[str, Any] = {}


#: Environment variable that `alignlaunch ... --preflight-only` sets: end before the model loads.
PREFLIGHT_ONLY = "ALIGNLAUNCH_PREFLIGHT_ONLY"


def load(path: Path) -> TrainConfig:
    """Read a `job.resolved.yaml`.

    Raises ValueError with the file's name and the rule that was broken.
    """
    import yaml

    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), TrainConfig)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(f"{path}: not a job.resolved.yaml: {error}") from error
