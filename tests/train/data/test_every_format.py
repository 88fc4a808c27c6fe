"""Every accepted format in every stage: through readers and encoders, onto the page of docs, and trained for real."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from bench import data_page
from bench.data_samples import BAD, GOOD, QUESTION, REFUSED, SAMPLES, SYSTEM

from alignlaunch.train import show
from alignlaunch.train.config import Data, Stage, TrainConfig
from alignlaunch.train.data.encoding import encoders
from alignlaunch.train.data.formats import readers
from alignlaunch.train.data.formats.reading import choose
from alignlaunch.train.data.formats.turns import FormatError
from tests.support.matrix import matrix
from tests.support.tiny import TOOL_CHAT_TEMPLATE
from tests.train.conftest import ROOT, Runner

PAGE = ROOT / "docs" / "data.md"


@pytest.fixture(scope="session")
def caller(workplace: Path) -> Path:
    """The tiny model, with a chat template that writes tools."""
    folder = workplace / "caller"
    shutil.copytree(workplace / "model", folder)
    (folder / "chat_template.jinja").write_text(TOOL_CHAT_TEMPLATE)
    return folder


def test_the_page_is_what_the_readers_say() -> None:
    assert data_page.page() == PAGE.read_text(encoding="utf-8"), "run `make data-page` and read the diff"


@pytest.mark.parametrize("stage", SAMPLES)
def test_every_format_has_an_example(stage: Stage) -> None:
    read = [choose(record, readers.FORMATS[stage]) for record in SAMPLES[stage]]
    assert [form.needs for form in readers.FORMATS[stage] if form not in read] == []


def shown(caller: Path, stage: Stage, record: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    file = folder / "x.jsonl"
    file.write_text(json.dumps(record))
    train = {"objective": "dpo"} if stage == "safe_dpo" else {}
    job = TrainConfig(
        name="x", stage=stage, model=str(caller), output_dir="o", data=Data(train=[str(file)]), train=train
    )
    (source,) = show.show(job, 1, 0)["data"]["train"]
    assert source["bad_records"] == []
    (found,) = source["shown"]
    return list(found["sequences"])


@pytest.mark.parametrize(
    ("stage", "number"), [(stage, number) for stage, records in SAMPLES.items() for number in range(len(records))]
)
def test_every_example_is_encoded_whole(caller: Path, tmp_path: Path, stage: Stage, number: int) -> None:
    """Each text of the record is in the sequence once, the assistant's learnt and no other."""
    record = SAMPLES[stage][number]
    content = json.dumps(record, ensure_ascii=False)
    for sequence in shown(caller, stage, record, tmp_path):
        text = "".join(part["text"] for part in sequence["parts"])
        learnt = "".join(part["text"] for part in sequence["parts"] if part["learnt"])
        if stage == "pt":
            assert learnt == text == f"{record['text']}<|end|>"
            continue
        assert text.count(QUESTION) == 1
        assert text.count(SYSTEM) == content.count(SYSTEM)
        assert (GOOD in text) != (BAD in text) or '"city": "Paris"' in text
        for given in (QUESTION, SYSTEM, "Hello", "celsius", "The weather of a city."):
            assert given not in learnt
        if "celsius" in text and stage == "sft":
            assert '{"name": "weather", "arguments": {"city": "Paris"}}' in learnt
        if stage != "rm":  # there the whole is scored
            assert (GOOD in learnt) != (BAD in learnt) or "weather" in learnt


@pytest.mark.parametrize(
    ("stage", "record", "says"), [(stage, *refused) for stage, all_of in REFUSED.items() for refused in all_of]
)
def test_every_refusal(caller: Path, stage: Stage, record: dict[str, Any], says: str) -> None:
    from types import SimpleNamespace

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(caller)
    args = SimpleNamespace(
        max_length=None, max_prompt_length=None, truncation_mode="keep_start", packing=False, objective="dpo"
    )
    with pytest.raises(FormatError) as error:
        encoders.STAGES[stage].encoder(tokenizer, args)(record)
    assert says in str(error.value)


@pytest.mark.parametrize("stage", ["sft", "dpo", *(matrix(stage) for stage in ("pt", "rm", "orpo", "safe_dpo"))])
def test_two_processes_train_on_every_format_at_once(
    caller: Path, workplace: Path, run_job: Runner, stage: Stage
) -> None:
    """One file a format, all in one job: weights make sure that each is trained on."""
    folder = workplace / "formats" / stage
    folder.mkdir(parents=True)
    train = []
    for number, record in enumerate(SAMPLES[stage]):
        if record.keys() & {"margin", "safety_labels"}:  # in every record or in none
            continue
        file = folder / f"{number}.jsonl"
        file.write_text((json.dumps(record) + "\n") * 4)
        train.append({"path": str(file), "weight": 1})
    options: dict[str, Any] = {"max_length": 1024, "dataset_num_proc": 2, "num_train_epochs": 2, "max_steps": -1}
    options |= {"objective": "dpo"} if stage == "safe_dpo" else {}
    options |= {"max_prompt_length": 1024} if stage in ("orpo", "safe_dpo") else {}
    found = run_job(
        f"formats-{stage}",
        stage=stage,
        nproc=2,
        model="caller",
        data={"train": train, "validation": [str(folder)], "cache_dir": "cache"},
        train=options,
    )
    assert found.code == 0, found.stdout + found.stderr
    assert f"{4 * len(train)} records -> {4 * len(train)} sequences (0 truncated, 0 dropped)" in found.stdout
    losses = found.logged("loss")
    assert losses[-1] < losses[0]
    assert found.logged("eval_loss")


@pytest.mark.parametrize("stage", ["sft", *(matrix(stage) for stage in ("pt", "rm", "dpo", "orpo", "safe_dpo"))])
def test_two_processes_refuse(caller: Path, workplace: Path, run_job: Runner, stage: Stage) -> None:
    record, says = REFUSED[stage][0]
    file = workplace / f"refused-{stage}.jsonl"
    file.write_text(json.dumps(SAMPLES[stage][0]) + "\n" + json.dumps(record) + "\n")
    found = run_job(f"refused-{stage}", stage=stage, nproc=2, model="caller", data={"train": [str(file)]})
    assert found.code != 0
    (told,) = {line for line in found.stderr.splitlines() if f"{file}:2: " in line}
    assert says in told
    assert not (found.output_dir / "model.safetensors").exists()
