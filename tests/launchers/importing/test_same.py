"""The resolved job says the same as the source: by the documents' own job files, and by the trainers' own parsers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench.importing import imported, value_at

from alignlaunch.launchers.job.rules import trainer_args

from .sources import FOLDER, SOURCES, Source

ROOT = Path(__file__).parents[3]
BY_NAME = {source.name: source for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_line_is_the_value_of_the_resolved_job(source: Source) -> None:
    found, resolved = imported(source)
    for key, line in found.job.items():
        value = value_at(resolved, key)
        if key.startswith("env."):
            assert str(value) == str(line.value), key
        else:
            assert value == line.value, key


#: The documents' job files of examples/, written by hand, and what their scripts say otherwise.
DOCUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "orpo": ("orpo-torchrun_multi_node_multi_gpu-sh", {}),
    "rm": ("rm-torchrun_multi_node_multi_gpu-sh", {}),
    "sft": ("sft-torchrun_multi_node_multi_gpu-sh", {"zero": "ds_config.json", "offload": "none"}),
    "pretraining": ("pt-deepspeed_muti_node_muti_gpu-sh", {}),
    "helpful-rm": ("safe_dpo-train_rm_distributed-sh", {"data.train": ["DATA"]}),
    "safe-dpo": ("safe_dpo-train_dpo_distributed-sh", {"train.scores": "precomputed"}),
}


@pytest.mark.parametrize("example", DOCUMENTS)
def test_a_document_s_script_says_what_its_job_file_says(example: str) -> None:
    name, otherwise = DOCUMENTS[example]
    _, resolved = imported(BY_NAME[name])
    job = yaml.load((ROOT / "examples/documents" / f"{example}.yaml").read_text(encoding="utf-8"), yaml.SafeLoader)
    wanted: dict[str, Any] = {}
    for key, value in job.items():
        wanted |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    assert wanted.pop("name")
    # YAML 1.1 reads 2e-5 as text.
    numbers = {key: float(value) if key == "train.learning_rate" else value for key, value in wanted.items()}
    assert {key: value_at(resolved, key) for key in numbers} == numbers | otherwise


def _parsed_by_trl(source: Source, stage: str) -> tuple[Any, Any]:
    """(training arguments, model arguments) as TRL's own script would have them."""
    import trl

    config = {"sft": trl.SFTConfig, "dpo": trl.DPOConfig, "rm": trl.RewardConfig}[stage]  # type: ignore[attr-defined]
    text = (FOLDER / source.folder / source.file).read_text(encoding="utf-8")
    if source.file.endswith(".yaml"):
        arguments = ["--config", source.file]
    else:
        code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        words = shlex.split(code.replace("\\\n", " "))
        start = next(i for i, word in enumerate(words) if word.endswith(".py") or word == "sft")
        arguments = words[start + 1 :]
        for name in ("--accelerate_config", "--num_processes"):
            if name in arguments:
                at = arguments.index(name)
                del arguments[at : at + 2]
    parser = trl.TrlParser((trl.ScriptArguments, config, trl.ModelConfig))  # type: ignore[attr-defined,arg-type]
    _, training, model = parser.parse_args_and_config([*arguments, "--use_cpu", "--bf16", "False"])
    return training, model


@pytest.mark.parametrize(
    ("name", "stage"), [("trl-dpo-sh", "dpo"), ("trl-sft_cli-sh", "sft"), ("trl-reward-yaml", "rm")]
)
def test_trl_parses_its_files_to_the_same_arguments(name: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = BY_NAME[name]
    _, resolved = imported(source)
    monkeypatch.chdir(FOLDER / source.folder)
    theirs, model = _parsed_by_trl(source, stage)
    # Neither side asks for bf16 on a machine without a GPU.
    given = {key: value for key, value in resolved["train"].items() if key != "bf16"}
    ours = type(theirs)(output_dir=resolved["output_dir"], use_cpu=True, bf16=False, **given)
    names = [name for name in trainer_args()["stages"][stage] if hasattr(ours, name)]
    assert {name: getattr(ours, name) for name in names} == {name: getattr(theirs, name) for name in names}
    assert resolved["train"]["bf16"] is True
    assert (ours.output_dir, resolved["model"]) == (theirs.output_dir, model.model_name_or_path)
    lora = resolved["lora"]
    assert (lora is not None) == model.use_peft
    if lora is not None:
        assert (lora["r"], lora["alpha"], lora["dropout"]) == (model.lora_r, model.lora_alpha, model.lora_dropout)
        assert model.lora_target_modules in (None, lora["target_modules"])
