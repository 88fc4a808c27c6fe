"""Bad data is told before anything is submitted, with file and line."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import job, jobfile
from alignlaunch.launchers.submit import data_checks
from tests.conftest import Cli

PAIR = {"prompt": "p", "chosen": "good", "rejected": "bad"}
CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
SAFE = {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0}
GOOD: dict[str, dict[str, Any]] = {
    "pt": {"text": "t"},
    "sft": CHAT,
    "rm": PAIR,
    "dpo": PAIR,
    "orpo": PAIR,
    "safe_dpo": SAFE,
}


def job_with(folder: Path, stage: str = "orpo", **data: Any) -> job.Job:
    path = folder / "job.yaml"
    data = {"train": ["data"]} | data
    path.write_text(f"name: tiny\nstage: {stage}\nmodel: model\ndata: {json.dumps(data)}\n")
    document = jobfile.read(path)
    if stage == "safe_dpo":
        document.data["train"] = {f"{name}_reward_model": f"{name}_rm" for name in ("helpful", "harmless")}
    return jobfile.build(document, (), None)


def write(path: Path, *lines: Any) -> Path:
    """A file of one record a line; bytes and text go in as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, (bytes, str)) else json.dumps(line) for line in lines]
    path.write_bytes(b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts))
    return path


def refusal(checked: job.Job) -> str:
    with pytest.raises(UsageError) as error:
        data_checks.check(checked)
    assert error.value.exit_code == 2
    assert "nothing was written or submitted" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("stage", GOOD)
def test_good_data_says_nothing(tmp_path: Path, stage: str) -> None:
    write(tmp_path / "data" / "x.jsonl", GOOD[stage], GOOD[stage])
    (tmp_path / "data" / "y.json").write_text(json.dumps([GOOD[stage]]))
    assert data_checks.check(job_with(tmp_path, stage)) == []


TURNS = [{"role": "user", "content": "q"}, {"role": "bot", "content": "a"}]


@pytest.mark.parametrize(
    ("stage", "bad", "says"),
    [
        ("pt", {"txt": "t"}, "columns found: txt; accepted: text"),
        ("pt", {"text": ""}, "`text` is empty"),
        ("sft", {"question": "q"}, "columns found: question; accepted: conversations"),
        ("sft", {"prompt": "q", "completion": " "}, "`completion` is empty"),
        ("sft", {"messages": TURNS}, "`messages` has role: 'bot'"),
        ("sft", {"conversations": [{"from": "robot", "value": "a"}]}, "`conversations` has from: 'robot'"),
        ("sft", {"messages": [{"role": "assistant", "content": 3}]}, "turn holds int, not text"),
        ("orpo", {"prompt": "p", "chosen": "good"}, "columns found: prompt, chosen; accepted:"),
        ("orpo", PAIR | {"rejected": ""}, "`rejected` is empty"),
        ("dpo", PAIR | {"rejected": "good"}, "`chosen` and `rejected` are the same"),
        ("dpo", {"question": "q", "response_chosen": "a", "response_rejected": "a"}, "are the same"),
        ("rm", PAIR | {"chosen": ["a"]}, "`chosen` must be text or a list of {role, content} or"),
        ("rm", PAIR | {"margin": "much"}, "`margin` is 'much'; expected a finite number"),
        ("rm", PAIR | {"rejected": TURNS}, "`rejected` has role: 'bot'"),
        ("safe_dpo", SAFE | {"response_1": "a"}, "`response_0` and `response_1` are the same"),
        ("safe_dpo", PAIR, "columns found: prompt, chosen, rejected"),
        *[
            (stage, bad, says)
            for stage in GOOD
            for bad, says in [
                (b'{"text": "\xff"}', "not UTF-8 text"),
                ('{"text": "cut o', "not JSON: Unterminated string"),
                ("[1, 2]", "holds a list"),
                ('"text"', "holds a str"),
            ]
        ],
    ],
)
def test_a_bad_record_is_told_by_file_and_line(tmp_path: Path, stage: str, bad: Any, says: str) -> None:
    path = write(tmp_path / "data" / "x.jsonl", GOOD[stage], "", bad, GOOD[stage])
    said = refusal(job_with(tmp_path, stage)).splitlines()
    assert said[0].startswith(f"{path}:3: ")
    assert says in said[0]
    assert "remedy: " in said[1]
    assert said[2].startswith("1 of the 3 records that were read are bad")
    assert data_checks.check(job_with(tmp_path, stage, skip_bad_records=True)) == [
        "warning: 1 of the 3 records that were read are bad and will be skipped"
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("data/notes.md", b"", "data.train: {}/data: the folder holds no file of type .json"),
        ("data/x.json", b'[{"prompt":\n"p"', "{}/data/x.json:2: not JSON"),
        ("data/x.json", b'[{"prompt":\n"\xff"}]', "{}/data/x.json:2: not UTF-8 text"),
        ("data/x.jsonl.gz", gzip.compress(b'{"a": 1}' * 99)[:20], "{}/data/x.jsonl.gz: not a whole gzip file"),
        ("data/x.jsonl", b"\n\n", "data.train: {}/data/x.jsonl: there is not one record"),
        ("data", b"", "data.train: {}/data: not one of the file types .json"),
    ],
)
def test_data_that_cannot_be_read_is_never_skipped(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    write(tmp_path / name, content)
    assert refusal(job_with(tmp_path, skip_bad_records=True)).startswith(says.format(tmp_path))


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    assert distribution("datasets")  # brings pyarrow, without which it is not looked at
    write(tmp_path / "data/x.parquet", b"PAR1")
    assert refusal(job_with(tmp_path)).startswith(f"{tmp_path}/data/x.parquet: not a parquet file")


def test_text_files_are_for_pretraining_only(tmp_path: Path) -> None:
    write(tmp_path / "data.txt", "some words\n")
    assert data_checks.check(job_with(tmp_path, "pt", train=["data.txt"])) == []
    assert "Plain text is for stage pt" in refusal(job_with(tmp_path, "sft", train=["data.txt"]))


def test_all_problems_at_once_but_no_flood(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", *[{}] * 15)
    write(tmp_path / "data" / "b.jsonl", *[PAIR, *[{}] * 15])
    said = refusal(job_with(tmp_path)).splitlines()
    assert [line.partition(": ")[0] for line in said[:20]] == [
        *(f"{tmp_path}/data/a.jsonl:{line}" for line in range(1, 16)),
        *(f"{tmp_path}/data/b.jsonl:{line}" for line in range(2, 7)),
    ]
    assert said[20] == "and 10 more"
    assert said[-1].startswith("30 of the 31 records")


def test_columns_are_mapped(tmp_path: Path) -> None:
    write(tmp_path / "data" / "x.jsonl", {"question": "q", "good": "a", "bad": "b"})
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert data_checks.check(job_with(tmp_path, columns=columns)) == []
    assert data_checks.check(job_with(tmp_path, train=[{"path": "data", "columns": columns}])) == []
    assert "no column qestion" in refusal(job_with(tmp_path, columns=columns | {"prompt": "qestion"}))


def test_only_the_beginning_of_a_large_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "data" / "x.jsonl", *[PAIR] * 1000, {})
    assert data_checks.check(job_with(tmp_path)) == []
    write(path, *[PAIR] * 999, {})
    assert f"{path}:1000: columns found" in refusal(job_with(tmp_path))
    monkeypatch.setattr(data_checks, "SECONDS", -1)
    assert data_checks.check(job_with(tmp_path)) == [
        "note: the data check ended after -1 s and 0 records; the nodes read them all"
    ]


def test_a_large_file_of_one_piece_is_left_to_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = write(tmp_path / "data" / "x.jsonl", PAIR, {})
    (tmp_path / "data" / "y.json").write_text("[{}]")
    monkeypatch.setattr(data_checks, "DOCUMENT_BYTES", 0)
    assert str(refusal(job_with(tmp_path))).startswith(f"{lines}:2: ")
    lines.unlink()
    (note,) = data_checks.check(job_with(tmp_path))
    assert note == f"note: {tmp_path}/data/y.json was not checked: it is read as a whole, and larger than 0 MB"


def test_what_is_not_here_is_left_to_the_nodes(tmp_path: Path) -> None:
    assert data_checks.check(job_with(tmp_path, train=["./elsewhere", "owner/name"])) == []


@pytest.mark.parametrize("validation", ["data", "data/x.jsonl", "./data/../data"])
def test_evaluating_on_the_training_data_is_told(tmp_path: Path, validation: str) -> None:
    """Point 8 of the twelve: the documents' scripts did it by default."""
    write(tmp_path / "data" / "x.jsonl", PAIR)
    write(tmp_path / "eval" / "x.jsonl", PAIR)
    (warning,) = data_checks.check(job_with(tmp_path, validation=["eval", validation]))
    assert warning.startswith("warning: data.validation: 1 of its 2 files are in data.train too")
    assert "validation_share" in warning
    assert data_checks.check(job_with(tmp_path, validation=["eval"])) == []


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    write(tmp_path / "data" / "x.jsonl", PAIR)
    loaded = job_with(tmp_path)
    code = (
        "import sys; from pathlib import Path; from alignlaunch.launchers.job import jobfile\n"
        "from alignlaunch.launchers.submit import data_checks\n"
        f"data_checks.check(jobfile.load(Path({str(loaded.path)!r}))); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    assert "alignlaunch" in modules
    assert modules & {"torch", "transformers", "datasets", "numpy", "pyarrow", "submitit"} == set()


@pytest.mark.parametrize("command", ["slurm", "local"])
def test_the_commands_refuse_and_can_be_told_not_to_look(tmp_path: Path, cli: Cli, command: str) -> None:
    path = write(tmp_path / "data" / "x.jsonl", PAIR, PAIR | {"rejected": "good"})
    job_with(tmp_path)
    done = cli(command, "job.yaml")
    assert done.returncode == 2
    assert f"error: {path.relative_to(tmp_path)}:2: `chosen` and `rejected` are the same" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "launch").exists(), "something was written"
    # Without the check the job goes on: to sbatch, which is not here, or to a python that is not there.
    where = {"slurm": str(tmp_path), "local": "/usr/bin:/bin"}[command]
    told = cli(command, "job.yaml", "--no-data-check", PATH=where, ALIGNLAUNCH_PYTHON="/nonexistent")
    assert "are the same" not in told.stderr
    assert (tmp_path / "launch").exists()


def test_images_that_are_not_there(tmp_path: Path) -> None:
    """Those that this machine would see: a folder of the nodes is theirs to look into."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").touch()
    write(tmp_path / "data" / "x.jsonl", *(CHAT | {"images": [name]} for name in ("a.png", "/nodes/b.png", "c.png")))
    said = refusal(job_with(tmp_path, "sft"))
    assert "x.jsonl:3: `images`: c.png: no such file" in said
    assert "1 of the 3 records" in said
    write(tmp_path / "data" / "x.jsonl", PAIR | {"image": "a.png"})
    assert "`image`: stage orpo takes no images" in refusal(job_with(tmp_path))
