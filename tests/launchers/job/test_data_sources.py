"""The sources that `data` names, with their weights and columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlaunch.launchers.job import jobfile
from tests.conftest import MINIMAL

from .job_files import problems, write


def test_the_documents_comma_separated_folders(tmp_path: Path) -> None:
    loaded = jobfile.load(write(tmp_path), ("data.train=a, b,", "data.validation=c"))
    assert (loaded.spec.data.train, loaded.spec.data.validation) == (["a", "b"], ["c"])


def test_sources_with_weights_and_columns(tmp_path: Path) -> None:
    entries = [{"path": "a", "weight": 0.3, "columns": {"prompt": "q"}}, {"path": "b", "weight": 2}]
    keys = {"train": entries, "columns": {"prompt": "x"}, "validation_share": 0.05, "skip_bad_records": True}
    data = jobfile.load(write(tmp_path), (f"data={json.dumps(keys)}",)).spec.data
    assert [(s.path, s.weight, s.columns) for s in data.sources("train")] == [
        ("a", 0.3, {"prompt": "q"}),
        ("b", 2.0, {"prompt": "x"}),
    ]
    assert (data.sources("validation"), data.evaluates, data.skip_bad_records) == ([], True, True)
    mixed = jobfile.load(write(tmp_path), ('data.train=["a, b", {path: "c,d"}]',)).spec.data
    assert [source.path for source in mixed.sources("train")] == ["a", "b", "c,d"]
    assert not mixed.evaluates


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("{train: [a, {pth: b}]}", ["data.train[1].path this key is required", "data.train[1].pth unknown key"]),
        ("{train: [{path: b, weight: 0}]}", ["data.train[0].weight expected `float` > 0.0"]),
        ("{train: [{path: b, columns: {prompt: 3}}]}", ["data.train[0].columns expected `str`, got `int`"]),
        ("{train: [a, 3]}", ["data.train[1] expected `str | object`, got `int`"]),
        ("{train: [{path: b, weight: 1}, a]}", ["data.train[1] no weight, but other sources have one"]),
        ("{train: [{path: b, weight: 1}, {path: a}]}", ["data.train[1] no weight, but other sources have one"]),
        (
            "{train: [a], validation: [{path: b, weight: 1}]}",
            ["data.validation[0].weight evaluation reads every record once"],
        ),
        (
            "{train: [a], validation: [b], validation_share: 0.1}",
            ["data.validation_share `data.validation` is given as well"],
        ),
        ("{train: [a], validation_share: 1}", ["data.validation_share expected `float` < 1.0"]),
        ("{train: [a], validation_share: 0}", ["data.validation_share expected `float` > 0.0"]),
        ("{train: [a], columns: [x]}", ["data.columns expected `object`, got `array`"]),
    ],
)
def test_bad_sources(tmp_path: Path, data: str, found: list[str]) -> None:
    text = MINIMAL.replace("data: {train: [data]}", f"data: {data}")
    said = problems(write(tmp_path, text))
    assert sorted(line.partition(" ")[2] for line in said) == found
    assert all(line.startswith("job.yaml:4:") for line in said)
