"""Launch scripts and other tools' configurations, which a person found somewhere: they are read, and never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from alignlaunch.launchers.importing import read, write
from tests.launchers.importing.sources import FOLDER

from .jobs import plain, text_of
from .target import Target
from .values import damaged

_FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
SCRIPTS = [path.read_bytes() for path in _FILES if path.suffix in (".sh", ".sbatch")]
CONFIGURATIONS = [path.read_bytes() for path in _FILES if path.suffix in (".yaml", ".yml")]
BESIDE = [path.read_bytes() for path in _FILES if path.suffix == ".json" or path.name == "deepspeed_zero3.yaml"]
_NAMES = sorted({key for text in CONFIGURATIONS for key in yaml.safe_load(text)})

#: Pieces of bash, in any order: what is built of them is often bash.
_pieces = st.sampled_from(
    [
        *("torchrun ", "accelerate launch ", "deepspeed ", "srun ", "python -m ", "trl dpo ", "train.py ", "--nnodes "),
        *("--nproc_per_node=", "--deepspeed ds.json ", "--config_file a.yaml ", "--model_name_or_path ", "--bf16 "),
        *("$1", "${2:-4}", "${X:=", "}", "${A[@]}", "$((", "))", "$(", ")", "`", '"', "'", "\\", "\n", ";", "|", "&&"),
        *(
            "#SBATCH --nodes=2\n",
            "#SBATCH -N",
            "export A=",
            "A=(",
            "f() {",
            "f ",
            "if [ ",
            " ]; then ",
            "fi",
            "case $1 in ",
        ),
        *(
            ";;",
            "esac",
            "for x in ",
            "do ",
            "done",
            "while ",
            "shift ",
            "exit ",
            "eval ",
            "cat > ds.json <<EOF\n",
            "\nEOF\n",
        ),
        *(
            "module load ",
            "conda activate ",
            "export HF_TOKEN=hf_x ",
            "0",
            "-1",
            "99999999999",
            "é",
            "\0",
            "{",
            "[",
            "%",
            "#",
        ),
    ]
)


def _read(folder: Path, name: str, *given: str) -> None:
    """All that `alignlaunch import` does."""
    found = read.read(folder / name, list(given))
    write.job(found, name)
    write.commented(write.profile(found))
    write.report(found)


def _beside(folder: Path, value: Any) -> None:
    """The files that a script names: DeepSpeed's, accelerate's, LLaMA-Factory's."""
    (folder / "data").mkdir()
    for name in ("ds.json", "a.yaml", "data/dataset_info.json"):
        (folder / name).write_bytes(text_of(value))
    (folder / "train.sh").write_text(
        "accelerate launch --config_file a.yaml train.py --deepspeed ds.json --config a.yaml\n"
    )
    (folder / "lf.yaml").write_text("stage: sft\nfinetuning_type: lora\ndataset: a,b\ndeepspeed: ds.json\n")


def _each(folder: Path) -> None:
    try:
        _read(folder, "train.sh")
    finally:
        _read(folder, "lf.yaml")


def _script(folder: Path, value: Any) -> None:
    (folder / "train.sh").write_bytes(value)


def _configuration(folder: Path, value: Any) -> None:
    (folder / "train.yaml").write_bytes(text_of(value))


TARGETS = {
    "scripts, as text": Target(damaged(SCRIPTS), lambda folder, _: _read(folder, "train.sh", "3", "2"), _script),
    "scripts, of pieces": Target(
        st.lists(_pieces, max_size=30).map(lambda pieces: "".join(pieces).encode()),
        lambda folder, _: _read(folder, "train.sh"),
        _script,
    ),
    "configurations, as text": Target(damaged(CONFIGURATIONS), lambda f, _: _read(f, "train.yaml"), _configuration),
    "configurations, as data": Target(plain(CONFIGURATIONS), lambda f, _: _read(f, "train.yaml"), _configuration),
    "files that a script names": Target(damaged(BESIDE) | plain(BESIDE), lambda f, _: _each(f), _beside),
}
