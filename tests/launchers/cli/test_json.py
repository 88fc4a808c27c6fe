"""`--json`: every command prints what docs/json.md says, each key and no other."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from bench import json_page

from alignlaunch.launchers import cli
from alignlaunch.launchers.cli import shapes
from tests.support import every_json


def test_every_command_with_json_has_its_shape() -> None:
    having = [name for name, one in cli.main.commands.items() if any(p.name == "as_json" for p in one.params)]
    assert sorted(having) == sorted(shapes.PRINTED)


def test_every_command_prints_its_shape(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    printed = every_json.printed(tmp_path)
    for command, found in printed.items():
        every_json.hold(command, found)
    # Slurm's and Kubernetes' are held to theirs by tests/support/looking.py, on real ones.
    assert {*shapes.PRINTED} - {*printed} == {"slurm", "k8s"}
    assert printed["status"][0]["goodput"]["wall"] > 0
    assert printed["status"][0]["goodput"] == printed["compare"][0]["goodput"]
    handle = printed["local"][0]["handle"]
    assert {printed[name][0]["handle"] for name in ("status", "describe", "diagnose", "compare")} == {handle}
    assert printed["logs"]["handle"] == handle
    # Of the sweep's two points the first is running, and the second waits for it.
    first = printed["cancel"][0]
    assert [(one["handle"], Path(one["checkpoint"]).parent) for one in printed["save"]] == [
        (first["handle"], Path(first["output_dir"]))
    ]


def test_the_examples_of_the_page_have_their_shapes() -> None:
    for command, example in json.loads(json_page.EXAMPLES.read_text(encoding="utf-8")).items():
        every_json.hold(command, example)


@pytest.mark.parametrize("change", [{"more": 1}, {"pod": 3}, {"pod": None, "rank": "0"}])
def test_what_has_another_key_or_type_is_seen(change: dict[str, object]) -> None:
    line = {"handle": "local://a", "line": "", "rank": 0, "node": None, "pod": None}
    every_json.hold("logs", line)
    with pytest.raises(msgspec.ValidationError):
        every_json.hold("logs", line | change)
    with pytest.raises(msgspec.ValidationError):
        every_json.hold("logs", {key: value for key, value in line.items() if key != "node"})
