"""Hostile values in environment and in paths reach the process unchanged, through every script."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlaunch.train import config
from tests.support.hostile import HOSTILE, texts

from .script_runs import Place


@contextmanager
def place(**keys: Any) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="a b'c$d") as folder:  # the place itself is hostile, too
        yield Place(Path(folder).resolve(), **keys)


def keys_of(values: list[str]) -> dict[str, Any]:
    """A job with the values everywhere: variables, model, data, output."""
    first = values[0]
    return {
        "env": {f"V{i}": value for i, value in enumerate(values)},
        "model": first,
        "data": {"train": values},
        "output_dir": first,
    }


def check_unchanged(at: Place, target: str, told: dict[str, Any], values: list[str]) -> None:
    assert [told["env"][f"V{i}"] for i in range(len(values))] == values
    assert told["env"]["TORCH_FR_DUMP_TEMP_FILE"] == f"{values[0]}/fr_rank_"
    resolved = at.folder / "launch" / "hostile" / target / "job.resolved.yaml"
    assert str(resolved) in told["argv"]
    plain = yaml.safe_load(resolved.read_text(encoding="utf-8"))
    loaded = config.load(resolved)
    assert plain["env"] == {f"V{i}": value for i, value in enumerate(values)}
    for got in (
        (plain["model"], plain["data"]["train"], plain["output_dir"]),
        (loaded.model, loaded.data.train, loaded.output_dir),
    ):
        assert got == (values[0], values, values[0])
    assert not Path("/tmp/evil").exists()  # noqa: S108 - what one of the values would make


def check_bash(values: list[str]) -> None:
    with place(**keys_of(values)) as at:
        done = at.bash("0", "1", "1")
        assert done.returncode == 0, done.stderr
        check_unchanged(at, "bash", at.told(), values)
        # Each figure still stands on a line of its own.
        starts = [line.partition(" ")[0] for line in done.stdout.rstrip("\n").split("\n")]
        assert starts == ["job", "model", "data", "output", "ZeRO", "nodes", "processes", "batch"]


def check_sbatch(values: list[str], launcher: str) -> None:
    with place(**keys_of(values), nnodes=2, nproc_per_node=1, launcher=launcher) as at:
        done = at.sbatch()
        assert done.returncode == 0, done.stderr
        for rank in ("0", "1"):
            check_unchanged(at, "slurm", at.told(rank), values)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:20])
def test_a_hostile_value_in_bash(value: str) -> None:
    check_bash([value])


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "direct"])
def test_all_hostile_values_in_slurm(launcher: str) -> None:
    check_sbatch(HOSTILE, launcher)


@settings(max_examples=10)
@given(st.lists(texts, min_size=12, max_size=12))
def test_any_values_in_bash(values: list[str]) -> None:
    check_bash(values)


@settings(max_examples=6)
@given(st.lists(texts, min_size=12, max_size=12))
def test_any_values_in_slurm(values: list[str]) -> None:
    check_sbatch(values, "torchrun")
