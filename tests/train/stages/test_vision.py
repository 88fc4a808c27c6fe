"""SFT and DPO of a tiny LLaVA on pictures: what is learnt, in one process and in two, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from alignlaunch.train.config import Data, Lora, TrainConfig
from alignlaunch.train.data import preparation
from alignlaunch.train.data.encoding import encoders, vision
from alignlaunch.train.data.formats import images
from alignlaunch.train.data.formats.turns import FormatError
from alignlaunch.train.errors import UserError
from alignlaunch.train.model import adapter
from alignlaunch.train.stages import dpo, sft
from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner
from tests.train.outputs.test_trained import alignlaunch, assert_same_evaluation

#: Tokens of one picture: 4 × 4 patches.
PATCHES = 16
LORA = {"r": 4, "alpha": 8, "dropout": 0.0}
DATA = {"sft": "seen", "dpo": "seen_pairs"}


def job_of(place: Path, stage: str, **changes: Any) -> TrainConfig:
    named = {"name": "seen", "stage": stage, "model": str(place / "llava"), "output_dir": "out"}
    given: dict[str, Any] = named | {"data": Data(train=[f"{DATA[stage]}.jsonl"])} | changes
    return TrainConfig(**given)


def encoder_of(job: TrainConfig, **args: Any) -> tuple[encoders.Encoder, Any]:
    from alignlaunch.train.model import loading

    tokenizer = loading.load_tokenizer(job)
    processor = vision.load_processor(job, tokenizer)
    given: dict[str, Any] = {"max_length": None, "truncation_mode": "keep_start", "packing": False} | args
    stage = {"sft": sft, "dpo": dpo}[job.stage]
    return vision.encoder(job, stage, tokenizer, processor, SimpleNamespace(**given)), processor


@pytest.fixture(scope="session")
def alone(run_job: Runner) -> Callable[[str], Finished]:
    @cache
    def run(stage: str) -> Finished:
        return see(run_job, f"seen-alone-{stage}", stage, train={"gradient_accumulation_steps": 2})

    return run


def see(run_job: Runner, name: str, stage: str, *, train: dict[str, Any], **options: Any) -> Finished:
    chosen = {"max_steps": 6, "max_length": 64, "learning_rate": 0.003} | train
    where = {"train": [f"{DATA[stage]}.jsonl"], "validation": [f"{DATA[stage]}_eval.jsonl"], "cache_dir": "cache"}
    return run_job(name, stage=stage, model="llava", data=where, train=chosen, **options)


@pytest.mark.parametrize(
    ("stage", "zero"),
    [
        matrix("sft", None),
        matrix("sft", "zero2.json"),
        matrix("sft", "zero3.json"),
        ("dpo", None),
        matrix("dpo", "zero2.json"),
        matrix("dpo", "zero3.json"),
    ],
)
def test_two_processes_equal_one(
    stage: str, zero: str | None, gallery: Path, run_job: Runner, alone: Callable[[str], Finished]
) -> None:
    expected, found = alone(stage), see(run_job, f"seen-two-{stage}-{zero}", stage, train={}, nproc=2, zero=zero)
    for run in (expected, found):
        assert run.code == 0, run.stdout + run.stderr
        assert len(run.logged("loss")) == 6
        assert run.logged("loss")[0] - run.logged("loss")[-1] > 0.1
    for name in ("loss", "grad_norm"):
        assert found.logged(name) == pytest.approx(expected.logged(name), abs=1e-4, rel=1e-4), name
    saved, before = load_file(found.output_dir / "model.safetensors"), load_file(gallery / "llava/model.safetensors")
    assert saved.keys() == before.keys()
    for part in ("vision_tower", "multi_modal_projector", "language_model"):
        assert any(part in name and not weight.equal(saved[name]) for name, weight in before.items()), part
    assert (found.output_dir / "processor_config.json").is_file()


@pytest.mark.matrix
def test_an_adapter_is_on_the_language_model_alone(gallery: Path, run_job: Runner) -> None:
    found = see(run_job, "seen-lora", "dpo", train={"gradient_checkpointing": True}, lora=LORA, nproc=2)
    assert found.code == 0, found.stdout + found.stderr
    names = load_file(found.output_dir / "adapter_model.safetensors").keys()
    assert names
    assert all(".language_model." in name for name in names)


@pytest.mark.parametrize(
    ("stage", "weights"), [matrix("sft", "full"), matrix("dpo", "full"), matrix("sft", "lora"), ("dpo", "lora")]
)
def test_eval_gives_what_training_gave_at_its_end(
    stage: str, weights: str, gallery: Path, run_job: Runner, alone: Callable[[str], Finished], tmp_path: Path
) -> None:
    run = alone(stage) if weights == "full" else see(run_job, f"seen-lora-{stage}", stage, train={}, lora=LORA)
    assert run.code == 0, run.stdout + run.stderr
    done = alignlaunch(tmp_path, "eval", run.output_dir, "--json", XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert_same_evaluation(run, json.loads(done.stdout))


def test_all_linear_layers_of_the_language_model(gallery: Path) -> None:
    import torch
    from transformers import LlavaForConditionalGeneration

    network = LlavaForConditionalGeneration.from_pretrained(gallery / "llava")
    import peft

    adapted = peft.get_peft_model(network, adapter.configure(Lora(), network, range(0), head="lm"))
    layers = {name for name, module in network.named_modules() if isinstance(module, peft.tuners.lora.LoraLayer)}
    assert len(layers) == 2 * 7
    assert isinstance(adapted.get_output_embeddings(), torch.nn.Linear)


def test_the_answers_alone_are_learnt(gallery: Path) -> None:
    """Each answer of a conversation is a row; its labels say the answer and nothing else, pictures included."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    encode, processor = encoder_of(job_of(gallery, "sft"))
    turns = [
        {"role": "user", "content": "the capital <image> of"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "and<image>"},
        {"role": "assistant", "content": "a good answer"},
    ]
    files = [str(gallery / f"pictures/{i}.png") for i in (0, 1)]
    rows = encode({"messages": turns, "images": files}).rows
    first = "<|user|>the capital <image> of<|end|><|assistant|>"
    assert rows == [
        {
            "prompt": first,
            "completion": "Paris<|end|>",
            "images": files[:1],
        },
        {
            "prompt": f"{first}Paris<|end|><|user|>and<image><|end|><|assistant|>",
            "completion": "a good answer<|end|>",
            "images": files,
        },
    ]
    opened = [row | {"images": [Image.open(file) for file in row["images"]]} for row in rows]
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(opened)
    learnt = [processor.tokenizer.decode(labels[labels != -100]) for labels in batch["labels"]]
    assert learnt == ["Paris<|end|>", "a good answer<|end|>"]
    assert (batch["input_ids"] == processor.image_token_id).sum().item() == 3 * PATCHES


def test_too_long(gallery: Path) -> None:
    """A picture counts as the tokens it becomes: none of them is ever cut off."""
    encode, processor = encoder_of(job_of(gallery, "dpo"))
    record = {
        "question": "is",
        "response_chosen": "a",
        "response_rejected": "the",
        "images": [str(gallery / "pictures/0.png")],
    }
    (row,) = encode(record).rows
    given = processor(text=row["prompt"], images=[Image.open(file) for file in row["images"]], add_special_tokens=False)
    length = len(given["input_ids"][0])
    assert length > PATCHES
    assert not encoder_of(job_of(gallery, "dpo"), max_length=length)[0](record).rows
    cut = encoder_of(job_of(gallery, "dpo"), max_length=length + 1)[0](record)
    assert (cut.rows, cut.truncated) == ([row], True)


def test_a_preference_between_conversations(gallery: Path) -> None:
    """Answers of several turns: the prompt ends where the first of them begins."""
    encode, _ = encoder_of(job_of(gallery, "dpo"))
    asked, more = ({"role": "user", "content": text} for text in ("is", "why"))
    pair = {
        name: [{"role": "assistant", "content": name}, more, {"role": "assistant", "content": "end"}]
        for name in ("chosen", "rejected")
    }
    record = {"prompt": [asked], "images": [str(gallery / "pictures/0.png")]} | pair
    (row,) = encode(record).rows
    assert row["prompt"] == "<|user|><image>is<|end|><|assistant|>"
    assert row["chosen"] == "chosen<|end|><|user|>why<|end|><|assistant|>end<|end|>"
    late = pair | {"chosen": [pair["chosen"][0], {"role": "user", "content": "<image>"}, pair["chosen"][2]]}
    with pytest.raises(FormatError, match="after the first answer"):
        encode(record | late)


def test_rows_hold_paths(gallery: Path, tmp_path: Path) -> None:
    encode, _ = encoder_of(job_of(gallery, "dpo"))
    where = Data(train=[str(gallery / "seen_pairs.jsonl")])
    folder, report = preparation.prepare(
        preparation.Preparation(role="train", data=where, stage="dpo", encode=encode, key=""), tmp_path
    )
    assert report.sequences == [24]
    content = (folder / "data.arrow").read_bytes()
    assert str(gallery / "pictures/5.png").encode() in content
    assert b"PNG" not in content


def test_a_missing_picture_is_told_by_its_line(gallery: Path, tmp_path: Path) -> None:
    encode, _ = encoder_of(job_of(gallery, "sft"))
    good = json.loads((gallery / "seen.jsonl").read_text().splitlines()[0])
    good["images"] = [str(gallery / "pictures/0.png")]
    file = tmp_path / "bad.jsonl"
    todo = preparation.Preparation(role="train", data=Data(train=[str(file)]), stage="sft", encode=encode, key="")
    for bad, reason in (
        ("none.png", "no such file"),
        ("/nowhere/x.png", "cannot be opened"),
        ("bad.jsonl", "cannot be"),
    ):
        file.write_text("\n".join(json.dumps(good | {"images": [name]}) for name in (*good["images"], bad)))
        with pytest.raises(UserError, match=rf"bad\.jsonl:2: `images`: .*{bad}: {reason}"):
            preparation.prepare(todo, tmp_path / "cache")


def test_what_goes_with_no_images(gallery: Path) -> None:
    record = {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "images": ["x.png"],
    }
    blind, _ = encoder_of(job_of(gallery, "sft", model=str(gallery / "model")))
    with pytest.raises(FormatError, match="no vision-language model"):
        blind(record)
    with pytest.raises(FormatError, match="stage rm takes no images"):
        images.located(record, gallery, "rm")
    for args in (
        {"packing": True},
        {"max_length": 9, "truncation_mode": "keep_end"},
        {"precompute_ref_log_probs": True},
    ):
        with pytest.raises(UserError, match=rf"train\.{[*args][-1]}"):
            encoder_of(job_of(gallery, "sft"), **args)[0](record)
    encode, _ = encoder_of(job_of(gallery, "dpo"))
    with pytest.raises(FormatError, match="must be a conversation"):
        encode({"prompt": "a", "chosen": "b", "rejected": "c", "images": ["x.png"]})


@pytest.mark.parametrize(
    ("content", "count", "expected"),
    [
        ("q", 2, ["image", "image", "text"]),
        ("a<image>b", 1, ["text", "image", "text"]),
        ([{"type": "text", "text": "q"}, {"type": "image"}], 1, ["text", "image"]),
    ],
)
def test_where_images_stand(content: Any, count: int, expected: list[str]) -> None:
    (turn,) = images.placed([{"role": "user", "content": content}], count)
    assert [part["type"] for part in turn["content"]] == expected


def test_a_place_for_each_image() -> None:
    with pytest.raises(FormatError, match="2 images for 1 places"):
        images.placed([{"role": "user", "content": "<image>"}], 2)
    with pytest.raises(FormatError, match="assistant turn"):
        images.placed([{"role": "user", "content": "q"}, {"role": "assistant", "content": "<image>"}], 1)
