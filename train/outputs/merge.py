"""Merging a LoRA adapter into its base: a whole model that `from_pretrained` loads and the next stage can train."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alignlaunch

from .. import trained_folder
from ..errors import UserError
from ..model import vocabulary

#: Files of a trained folder that belong to its training and not to the model.
_OF_TRAINING: tuple[str, ...] = (
    *("training_args.bin", "trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state*.pth"),
    *("metrics.jsonl", "eval.json", "latest", "zero_to_fp32.py"),
)
#: Files of an adapter, with PEFT's model card.
_OF_ADAPTER = ("adapter_*", "README.md")


def merge_adapter(
    adapter: Path, output: Path, *, base: str | None = None, trust_remote_code: bool = False
) -> dict[str, Any]:
    """Write the base with the adapter added to its weights, in the base's precision, with the tokenizer beside it.

    The base is loaded unquantised, even if the adapter was trained on a quantised one. `base` replaces the one that the
    adapter names; it may itself be an adapter. Returns the new provenance. Raises UserError if `output` is taken, the
    base cannot be found, or the adapter cannot be merged into it.
    """
    _refuse_taken(output)  # now, not after minutes of loading
    import peft
    import transformers

    name = base or base_of(adapter)
    if trained_folder.kind(Path(name)) == "adapter":
        name = str(merged(Path(name), trust_remote_code=trust_remote_code))
    config = json.loads((adapter / trained_folder.ADAPTER).read_text(encoding="utf-8"))
    model = _load_base(name, config["task_type"], trust_remote_code=trust_remote_code)
    tokenizer_place = str(adapter) if (adapter / "tokenizer_config.json").is_file() else name
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_place, trust_remote_code=trust_remote_code)
    vocabulary.grow(model, len(tokenizer))  # as training does
    model.config.pad_token_id = tokenizer.pad_token_id
    try:
        model = peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    except ValueError as error:  # a NaN in the adapter, or a kind of adapter that cannot be merged
        raise UserError(f"{adapter}: cannot be merged into {name}: {error}") from error
    with new_folder(output) as folder:
        copy_files(adapter, folder, leave_out=(*_OF_TRAINING, *_OF_ADAPTER))
        model.save_pretrained(folder)
        if tokenizer_place == name:
            tokenizer.save_pretrained(folder)
        return describe(folder, source=adapter, base=name)


def base_of(adapter: Path) -> str:
    """The base that an adapter was trained on: a folder, or a hub id.

    A relative path starts at the job's folder, which the provenance beside the adapter records, or else at the working
    directory. A name that exists at neither is taken for a hub id; UserError if it cannot be one.
    """
    config = json.loads((adapter / trained_folder.ADAPTER).read_text(encoding="utf-8"))
    name = str(config["base_model_name_or_path"])
    about = trained_folder.provenance(adapter)
    places = [Path(about["working_dir"])] if about.get("working_dir") else []
    found = next((place / name for place in [*places, Path.cwd()] if (place / name).is_dir()), None)
    if found is None and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        looked = ", ".join(map(str, [*places, Path.cwd()]))
        raise UserError(
            f"{adapter / trained_folder.ADAPTER}: base_model_name_or_path: {name}: no such folder "
            f"(looked in {looked}). Say where the base is now: `alignlaunch export ... --base DIR`."
        )
    return str(found) if found else name


def merged(adapter: Path, *, trust_remote_code: bool = False) -> Path:
    """The merged model of an adapter folder, kept beside it: made on the first call, found again on later ones.

    The folder's name contains a hash of the adapter, so that one that is trained again is merged again.
    """
    content = hashlib.sha256()
    for path in sorted(adapter.glob("adapter_*")):
        content.update(path.read_bytes())
    adapter = adapter.resolve()
    output = adapter.with_name(f"{adapter.name}-merged-{content.hexdigest()[:12]}")
    if not output.is_dir():
        merge_adapter(adapter, output, trust_remote_code=trust_remote_code)
    return output


def _load_base(name: str, task: str | None, *, trust_remote_code: bool) -> Any:
    import transformers

    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **options)
        if getattr(config, "quantization_config", None):
            raise UserError(f"{name}: its weights are quantised; merging needs the original ones: `--base DIR`.")
        auto: Any = transformers.AutoModelForCausalLM
        if task == "SEQ_CLS":
            auto = transformers.AutoModelForSequenceClassification
            options["num_labels"] = 1
        elif (config.architectures or [""])[0].endswith("ForConditionalGeneration"):
            auto = transformers.AutoModelForImageTextToText
        return auto.from_pretrained(name, dtype="auto", **options)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: the adapter's base cannot be loaded: {reason} Say where it is: `--base DIR`."
        ) from error


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name, which becomes `output` in the end: so `output` is never incomplete.

    Raises UserError if `output` exists and is not empty, or cannot be written.
    """
    _refuse_taken(output)
    work: Path | None = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        yield work
        trained_folder.share(work, *work.glob("*"))
        try:
            work.rename(output)
        except OSError:
            if not output.is_dir():  # else another process made the same folder first
                raise
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written: {error.strerror or error}. Choose a place to write to."
        ) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def _refuse_taken(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: exists already. Name another folder, or remove this one.")


def copy_files(source: Path, folder: Path, *, leave_out: tuple[str, ...] = _OF_TRAINING) -> None:
    """Copy the files of a trained folder, not its folders (checkpoints, logs)."""
    for path in sorted(source.iterdir()):
        if path.is_file() and not any(path.match(pattern) for pattern in leave_out):
            shutil.copyfile(path, folder / path.name)


def describe(folder: Path, *, source: Path, base: str | None = None) -> dict[str, Any]:
    """Write the provenance of an exported folder: that of its source, and how it was made. Returns it."""
    export = {
        "alignlaunch": alignlaunch.__version__,
        "from": str(source.resolve()),
        "kind": trained_folder.kind(source),
        "merged_into": base,
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    about = trained_folder.provenance(source) | {"export": export}
    text = json.dumps(about, indent=2, sort_keys=True) + "\n"
    (folder / trained_folder.PROVENANCE).write_text(text, encoding="utf-8")
    return about
