"""The cache of prepared data: when it serves again, what its name follows, and what is removed from it."""

from __future__ import annotations

import ast
import inspect
import os
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.data import cache, preparation
from alignlaunch.train.data.encoding import encoders
from alignlaunch.train.data.formats import readers

from .preparing import lines, prepare


def test_prepared_once_and_again_when_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "x.jsonl", "a")
    assert prepare(tmp_path, [path])[0] == [[1]]
    calls: list[Any] = []
    monkeypatch.setattr(cache, "write", lambda *args: calls.append(args))
    assert prepare(tmp_path, [path])[0] == [[1]]
    assert calls == []
    monkeypatch.undo()
    lines(tmp_path / "x.jsonl", "abc")
    assert prepare(tmp_path, [path])[0] == [[3]]


def test_another_job_that_was_faster_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be reading it already. Both prepare: the second one meets the first one's folder only at the end."""
    path = lines(tmp_path / "x.jsonl", "a", "bb")
    write = cache.write
    first: list[int] = []

    def slow_write(*args: Any) -> None:
        write(*args)
        monkeypatch.setattr(cache, "write", write)
        prepare(tmp_path, [path])
        first.extend(file.stat().st_ino for file in (tmp_path / "cache").rglob("*.*"))

    monkeypatch.setattr(cache, "write", slow_write)
    assert prepare(tmp_path, [path])[0] == [[1], [2]]
    left = [file.stat().st_ino for file in (tmp_path / "cache").rglob("*.*")]
    assert len(left) == 2, "only data.arrow and report.json"
    assert set(left) <= set(first), "the files of the first job were replaced"


def test_a_folder_of_which_somebody_removed_a_part_is_made_again(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", "a")
    prepare(tmp_path, [path])
    (report,) = (tmp_path / "cache").rglob("report.json")
    report.unlink()
    assert prepare(tmp_path, [path])[0] == [[1]]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_name_follows_what_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "def f(x):\n    return x\n"
    same = '"""A module."""\n\ndef f(x):  # a comment\n    """What it does."""\n    return (x)\n'
    assert cache.meaning(code) == cache.meaning(same) != cache.meaning("def f(x):\n    return -x\n")
    before = cache.name(["k"])
    assert cache.name(["k"]) == before != cache.name(["other"])
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda package: "0" if package == "tokenizers" else version(package))
    assert cache.name(["k"]) != before


def test_every_module_that_makes_rows_is_in_the_name() -> None:
    """Those that a stage's readers and encoders come from; what they import from elsewhere makes no rows."""
    code = cache._code()
    for function in (encoders.sft, encoders.dpo_images, readers.READERS["safe_dpo"], preparation.prepare):
        assert cache.meaning(Path(inspect.getfile(function)).read_text()) in code
    folder = Path(cache.__file__).parent
    imported = {
        alias.name if node.module in (None, "") else f"{node.module}"
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == len(path.relative_to(folder).parts) + 1
        for alias in node.names
    }
    assert imported <= {"config", "errors", "reporting", "processes", "processes.beats", "processes.rendezvous"}, (
        imported
    )


def test_what_was_not_used_for_long_is_removed(tmp_path: Path) -> None:
    old, used = lines(tmp_path / "old.jsonl", "a"), lines(tmp_path / "used.jsonl", "b")
    prepare(tmp_path, [old])
    prepare(tmp_path, [used])
    cache = tmp_path / "cache"
    (cache / ".left.by_a_killed_run" / "x").mkdir(parents=True)
    (cache / ".at_work").mkdir()
    long_ago = time.time() - 31 * 24 * 3600
    for path in (*cache.glob("*/report.json"), cache / ".left.by_a_killed_run", cache / ".left.by_a_killed_run" / "x"):
        os.utime(path, (long_ago, long_ago))
    prepare(tmp_path, [used])
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [".at_work", *(path.parent.name for path in cache.glob("*/report.json"))]
    )
    (report,) = cache.glob("*/report.json")
    assert time.time() - report.stat().st_mtime < 3600, "it was used now"
