"""`python -m alignlaunch.train.export FOLDER OUTPUT [--merge] [--base DIR]`: export what a run trained.

A whole model is copied, an adapter is copied or merged into its base, and shards that a ZeRO-3 run did not gather are
joined by DeepSpeed's `zero_to_fp32`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from . import config, finish, trained_folder
from .errors import UserError
from .outputs import checkpoints, merge


def main() -> None:
    """Run the command; a user's mistake gives one sentence and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m alignlaunch.train.export", description=__doc__)
    parser.add_argument("folder", type=Path, help="output_dir of a run, or one of its checkpoints")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--merge", action="store_true", help="merge a LoRA adapter into its base")
    parser.add_argument("--base", metavar="DIR", help="the adapter's base, if it was moved")
    options = parser.parse_args()
    try:
        said = export(options.folder, options.output, merge_it=options.merge, base=options.base)
    except (UserError, ImportError) as error:
        remedy = f" ({sys.executable}; ALIGNLAUNCH_PYTHON names another)" if isinstance(error, ImportError) else ""
        print(f"alignlaunch: error: {error}{remedy}", file=sys.stderr)  # noqa: T201 - the command's own words
        sys.exit(finish.BAD_INPUT)
    print(said)  # noqa: T201


def export(folder: Path, output: Path, *, merge_it: bool, base: str | None = None) -> str:
    """Write what `folder` holds to `output`. Returns a sentence that says what was done. Raises UserError."""
    source = source_of(folder)
    kind = trained_folder.kind(source)
    if kind == "adapter" and merge_it:
        about = merge.merge_adapter(source, output, base=base, trust_remote_code=_trusted(source))
        return f"{output}: the adapter {source} merged into {about['export']['merged_into']}"
    with merge.new_folder(output) as work:
        merge.copy_files(source, work)
        if kind == "shards":
            _join_shards(source, work)
        merge.describe(work, source=source)
    return f"{output}: the {'model, from the shards' if kind == 'shards' else kind} of {source}"


def source_of(folder: Path) -> Path:
    """The folder itself if it holds weights; else, for a run that did not finish, its last complete checkpoint."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Name a run's output_dir or one of its checkpoints.")
    candidates = [folder, *reversed(checkpoints.complete_checkpoints(folder))]
    found = next((place for place in candidates if trained_folder.kind(place)), None)
    if found is None:
        raise UserError(f"{folder}: no weights in it, and no complete checkpoint. Did the run end without an error?")
    return found


def _join_shards(source: Path, folder: Path) -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # no GPU is needed for this
    import transformers

    zero_to_fp32: Any = importlib.import_module("deepspeed.utils.zero_to_fp32")
    config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=_trusted(source))
    model_class = getattr(transformers, (config.architectures or [""])[0], None)
    if model_class is None:
        raise UserError(f"{source}: its config.json names no model class of transformers to load the weights into.")
    weights = zero_to_fp32.get_fp32_state_dict_from_zero_checkpoint(str(source))
    model: Any = model_class.from_pretrained(None, config=config, state_dict=weights, dtype=config.dtype)
    model.save_pretrained(folder)


def _trusted(source: Path) -> bool:
    """Whether the job that trained this allowed the model's own code (`trust_remote_code`), and was no other user's."""
    job = trained_folder.provenance(source).get("job") or ""
    return config.trusts_remote_code(job) and not trained_folder.is_foreign(source)


if __name__ == "__main__":
    main()
